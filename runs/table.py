"""The tables that the suite writes: the meaning of each column, and the one CSV dialect. Needs no pandas.

A column means the same in every table. Numbers have six significant digits, "" is None, and a family such as
dead_units_N has a column for each N. analysis/records.py makes DataFrames with these types.
"""

import csv
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from runs import sums
from runs.schema import ConfigError


class TableError(ConfigError):
    """A table that cannot be read or written; the message is one line that says which one and why."""


class Column(NamedTuple):
    kind: type  # str, int, float, bool, or dict for JSON
    meaning: str  # with the unit if there is one


COLUMNS = {name: Column(kind, meaning) for kind, name, meaning in (
    # archive/<experiment>-runs.csv, a row a run
    (str, "label", "the entry of the experiment's grid"),
    (str, "stage", "grid, refine, extend, final or report"),
    (str, "dataset", "name of the data set"),
    (str, "model", "name of the network"),
    (int, "depth", "layers, where the network has that setting"),
    (str, "init", "initialisation of the weights"),
    (str, "optimizer", "name of the optimizer"),
    (float, "initial_lr", "learning rate of the first epoch"),
    (float, "gamma", "exponent of the Powerball function"),
    (str, "schedule", "name of the learning rate's schedule"),
    (int, "epochs", "asked for; of figure4.csv: trained"),
    (int, "seed", "seed of the run"),
    (str, "run", "identity of the run, 12 hex digits"),
    (str, "state", "finished, diverged or missing"),
    (str, "reason", "why it ended; of a selection: why it was chosen"),
    (float, "seconds", "of training: of a run, or of an epoch"),
    (str, "data", "fingerprint of the data; empty before it was recorded"),
    (dict, "environment", "what trained it: device, threads, versions, commit"),
    (int, "environment_changes", "times that the environment changed on the way"),
    (str, "config", "the settings that `run` is the hash of, canonical JSON"),
    # metrics.csv and archive/<experiment>-epochs.csv, a row an epoch
    (int, "epoch", "from 1"),
    (float, "lr", "learning rate of the epoch's first step; of the other tables: the setting's"),
    (float, "train_loss", "running mean over the epoch's images"),
    (float, "train_acc", "running share of the epoch's images"),
    (float, "grad_norm1", "1-norm of the first layer's weight gradient, mean over the steps"),
    (float, "powered_norm1", "the same after the Powerball function"),
    (float, "images_per_second", "of training"),
    (float, "test_loss", "after the epoch"),
    (float, "test_acc", "after the epoch"),
    (float, "train_acc_N", "running share of the epoch's images before its evaluation N"),
    (float, "test_acc_N", "within the epoch: its evaluation N, from 1, at equal distances"),
    (float, "validation_loss", "after the epoch, on the images held out"),
    (float, "validation_acc", "after the epoch, on the images held out"),
    (float, "train_eval_loss", "after the epoch, on the training set"),
    (float, "train_eval_acc", "after the epoch, on the training set"),
    (int, "dead_units_N", "units of hidden layer N that fire for no test image"),
    (float, "amplification_N", "2-norm of the powered gradient of layer N over the gradient's, mean over the steps"),
    (float, "grad_norm2_N", "2-norm of layer N's weight gradient, mean over the steps"),
    # selection-<experiment>.csv, a row a setting
    (str, "setting", "in words"),
    (float, "best_accuracy", "mean over the selecting seeds of each run's best epoch"),
    (int, "selecting_seeds", "how many seeds the setting was tried with"),
    (float, "epochs_to_reach", "most of that accuracy, mean over the selecting seeds"),
    (str, "chosen", "yes, or empty"),
    # figure3.csv to figure6.csv
    (float, "size", "of a gradient component"),
    (float, "amplification", "size ** (gamma - 1)"),
    (bool, "succeeded", "reached the accuracy of stop.success"),
    (str, "ended", "succeeded, dead, diverged or all epochs"),
    (float, "best_train_acc", "of all epochs"),
    (float, "last_train_acc", "of the last epoch"),
    (float, "last_test_acc", "of the last epoch"),
    (int, "seeds", "that the row is a mean of"),
    (float, "best_test_acc", "of all epochs, mean over the seeds"),
    (float, "least", "of the seeds"),
    (float, "greatest", "of the seeds"),
    (float, "best_train_loss", "the lowest of all epochs, mean over the seeds"),
    # theory/*.csv
    (str, "theorem", "A.1, B.1, 3.1 or 3.2"),
    (str, "problem", "of theory/problems.py"),
    (str, "oracle", "of theory/oracle.py"),
    (int, "n", "dimension"),
    (int, "T", "steps"),
    (float, "beta", "momentum"),
    (float, "sigma", "square root of the variance of one call of the oracle"),
    (int, "repetitions", "starting points, or draws of the noise"),
    (float, "measured", "the left side"),
    (float, "measured_low", "its interval's lower end"),
    (float, "measured_high", "its interval's upper end"),
    (float, "bound", "the right side"),
    (float, "ratio", "measured / bound"),
    (float, "worst", "the share of the bound that decides"),
    (bool, "holds", "measured, or its interval, is at most the bound or limit"),
    (str, "remark", "of the paper"),
    (str, "case", "what was measured, in words"),
    (float, "low", "lower end of the interval"),
    (float, "high", "upper end of the interval"),
    (float, "limit", "that the remark sets"),
    (str, "rule", "adaptive: the proofs' step size; or constant"),
    (float, "step", "the constant step size"),
    (float, "multiple", "of the mean adaptive step at x_1"),
    (bool, "at_edge", "the constant was chosen at the edge of its grid"),
    (float, "remaining", "of f(x) - f* after T steps, as a share of that at x_1"),
    (str, "use", "tuning, tuned or as estimated"),
    (float, "value", "the constant learning rate, or the multiple of the estimated L"),
    (float, "lipschitz", "L as estimated at x_1"),
    (int, "step_number", "from 0"),
    (float, "loss", "of the images that are shown"),
    (int, "batch", "images of a batch"),
    (float, "cosine", "of the mean of sigma(g) over batches and sigma of the true gradient"),
    (float, "length", "2-norm of the first over the second's"),
    (float, "lipschitz_end", "L as estimated after the last step"),
    (str, "key", "of the claim, which stays"),
    (str, "claim", "in words"),
    (str, "section", "of the paper"),
    (str, "verdict", "of analysis/verdicts.py"),
    (str, "evidence", "in words"),
    (str, "objection", "the strongest one to a verdict, in words"),
    # ancestry.csv, a row a pair of commits
    (str, "fixed", "the commit that fixed a claim, 12 hex digits"),
    (str, "commit", "the commit of the code that trained a run"),
    (bool, "before", "the first is an ancestor of the second, or the same"),
)}  # fmt: skip


def _bool(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError(f"'{text}' is neither True nor False")
    return text == "True"


def _dict(text: str) -> dict:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"'{text}' is not a JSON object")
    return found


READ = {str: str, int: int, float: float, bool: _bool, dict: _dict}
WRITE = {str: str, int: str, float: "{:.6g}".format, bool: str, dict: lambda value: json.dumps(value, sort_keys=True)}


def column(name: str) -> Column:
    """A column's type and meaning. Raises TableError if it is not declared."""
    found = COLUMNS.get(name) or COLUMNS.get(re.sub(r"_\d+$", "_N", name))
    if found is None:
        raise TableError(f"column '{name}' is not declared; declare it in runs/table.py")
    return found


def read(path: Path) -> list[dict]:
    """The rows of a table. Raises FileNotFoundError, DamagedFile, and TableError if it is not one of ours."""
    try:
        text = sums.read(path).decode()
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: {error}") from None
    return parse(io.StringIO(text, newline=""), path)


def parse(lines: Iterable[str], source: Path) -> list[dict]:
    """The rows of a table's text; `source` names the file in a TableError."""
    cells = csv.reader(lines)
    try:
        names = next(cells, [])
        readers = [READ[column(name).kind] for name in names]
        return [
            {name: read(text) if text else None for name, read, text in zip(names, readers, line, strict=True)}
            for line in cells
        ]
    except (ValueError, csv.Error) as error:
        raise TableError(f"{source}, line {cells.line_num}: {error}") from None


def write(path: Path, rows: list[dict]) -> None:
    """Write rows with all their columns, in order of first appearance; the file is listed in SHA256SUMS."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    writers = {name: WRITE[column(name).kind] for name in names}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        values = ((write, row.get(name)) for name, write in writers.items())
        writer.writerow(["" if value is None else write(value) for write, value in values])
    sums.write(path, text.getvalue().encode())


def select(rows: list[dict], **wanted) -> list[dict]:
    """The rows whose columns have these values."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]
