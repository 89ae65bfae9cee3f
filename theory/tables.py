"""The tables that git keeps: written with six significant digits, read back as what they were."""

import csv
import io
from pathlib import Path

from runs.run import write_atomically
from runs.schema import ConfigError


def write(path: Path, rows: list[dict]) -> None:
    """CSV with the columns of the first row; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([_cell(row[key]) for key in rows[0]] for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue().encode())


def read(path: Path) -> list[dict]:
    """The rows of a table written by `write`. Raises ConfigError where there is none."""
    try:
        with open(path, newline="") as file:
            return [{key: _value(key, cell) for key, cell in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing, so nothing can be redrawn; run: python -m theory") from None


def select(rows: list[dict], **wanted) -> list[dict]:
    """The rows whose columns have these values."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def _cell(value) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


WORDS = ("theorem", "problem", "oracle", "remark", "case", "rule", "use")
COUNTS = ("n", "T", "repetitions", "seed", "step_number")


def _value(key: str, cell: str):
    if key in WORDS:
        return cell
    if cell in ("True", "False"):
        return cell == "True"
    if cell == "":
        return None
    return int(cell) if key in COUNTS else float(cell)
