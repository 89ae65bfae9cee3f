"""From the runs of a plan to the tidy table that git keeps, and its provenance."""

import csv
import json
import statistics
import sys
from pathlib import Path

from training.run import Run, write_atomically

# What tells the runs of an experiment apart, besides label and seed.
SETTINGS = {"optimizer": ("lr", "gamma"), "model": ("depth", "init")}


class NoRecords(Exception):
    """There is nothing to draw; the message says what to run."""


def collect(results: Path, tier: str, experiment: str) -> tuple[list[dict], dict]:
    """The rows of all runs of an experiment's plan, an epoch each, and where they come from.

    A row has the grid entry's label, optimizer and settings, seed, the metrics of the epoch and the run's id. Runs
    that have not ended contribute nothing and are counted as missing in the provenance. Raises NoRecords without
    plan or ended runs.
    """
    path = results / tier / f"plan-{experiment}.json"
    try:
        plan = json.loads(path.read_text())
    except FileNotFoundError:
        raise NoRecords(f"{path} is missing; run: python sweep.py experiment={experiment} tier={tier}") from None
    rows, ended, missing = [], [], []
    for entry in plan["runs"]:
        run = Run(entry["folder"])
        if not run.ended():
            missing.append(run.name)
            continue
        ended.append(run)
        settings = {"label": entry["label"], "optimizer": entry["optimizer"]["name"]}
        settings |= {key: entry[part].get(key) for part, keys in SETTINGS.items() for key in keys}
        rows += [settings | {"seed": entry["seed"]} | row | {"run": run.id} for row in run.rows()]
    if not rows:
        raise NoRecords(f"no run of {path} has ended; run: python sweep.py experiment={experiment} tier={tier}")
    return rows, provenance(plan, ended, missing)


def provenance(plan: dict, ended: list[Run], missing: list[str]) -> dict:
    """What a figure is made of: tier, seeds, runs, and every environment that trained some of them."""
    statuses = [run.status() for run in ended]
    environments = [dict(pair) for pair in sorted({tuple(sorted(s["environment"].items())) for s in statuses}, key=str)]
    return {
        "experiment": plan["experiment"],
        "tier": plan["tier"],
        "changes": plan["changes"],
        "seeds": sorted({entry["seed"] for entry in plan["runs"]}),
        "runs": len(ended),
        "missing": missing,
        "states": {state: sum(s["state"] == state for s in statuses) for state in ("finished", "diverged")},
        "training_seconds": round(sum(s["seconds"] for s in statuses), 1),
        "seconds_per_run": round(statistics.mean(s["seconds"] for s in statuses), 1),
        "environments": environments,
        "environment_changed_while_training": sum(bool(s["environment_changes"]) for s in statuses),
    }


def write_table(path: Path, rows: list[dict]) -> None:
    """CSV with six significant digits, the columns of the first row, "" for None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [list(rows[0])] + [[_cell(row.get(key)) for key in rows[0]] for row in rows]
    write_atomically(path, "".join(",".join(line) + "\n" for line in lines).encode())


def read_table(path: Path) -> list[dict]:
    """The rows of a table written by write_table, numbers as numbers."""
    try:
        with open(path, newline="") as file:
            return [{key: _parsed(key, text) for key, text in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError:
        raise NoRecords(f"{path} is missing; nothing can be redrawn from it") from None


def select(rows: list[dict], **wanted) -> list[dict]:
    """The rows whose columns have these values."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def by_seed(rows: list[dict], column: str) -> dict[int, list[float]]:
    """A column's values in order of epochs, for each seed."""
    series: dict[int, dict[int, float]] = {}
    for row in rows:
        series.setdefault(row["seed"], {})[row["epoch"]] = row[column]
    return {seed: [value for _, value in sorted(values.items())] for seed, values in sorted(series.items())}


def command(draw) -> None:
    """Run a figure's `draw(arguments)` as a program; nothing to draw is one line and exit status 2."""
    try:
        draw()
    except NoRecords as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _cell(value) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _parsed(key: str, text: str):
    if text == "":
        return None
    if key in ("label", "optimizer", "init", "run"):
        return text
    return int(text) if key in ("depth", "seed", "epoch") else float(text)
