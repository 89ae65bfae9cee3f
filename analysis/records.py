"""From the runs of a plan to tidy tables from its archive, and their provenance."""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from runs import archive, schema, table
from runs.archive import MISSING
from runs.files import DamagedFile, read_json
from runs.run import RunError
from runs.schema import ConfigError

TIERS = (*schema.TIERS, "custom")
AXES = ("initial_lr", "gamma", "depth")  # what a grid varies; listed for missing runs
ABOUT = ("label", "stage", *archive.ABOUT)
CELL = ["stage", "dataset", "model", *AXES]  # if an entry's settings agree in these, more is named
METRICS = ("epoch", "lr", "train_loss", "train_acc", "test_loss", "test_acc")  # every epoch has these
RUN = ["label", "run"]  # two entries of a grid may share a run
ROOT = Path(__file__).resolve().parent.parent
RESULTS, EXPERIMENTS = ROOT / "results", ROOT / "configs" / "experiment"


class NoRecords(Exception):
    """There is nothing to draw yet; the message says what to run."""


def collect(results: Path, tier: str, experiment: str, redraw: bool = False) -> tuple[pd.DataFrame, dict]:
    """The epochs of all ended runs of an experiment, a row each, and their provenance.

    Unless `redraw`, first brings the archive up to date with the runs of the experiment's plan. The columns are those
    of `load`. Runs that have not ended are left out and counted as missing in the provenance. Raises NoRecords if no
    run has ended.
    """
    changes = [] if redraw else refresh(results, tier, experiment)
    runs, epochs = load(results / tier / "archive", experiment)
    if epochs.empty:
        raise NoRecords(f"no run of {experiment} at tier {tier} has ended; {advice(experiment, tier)}")
    return epochs, provenance(experiment, tier, changes, runs) | {"results": results}


def refresh(results: Path, tier: str, experiment: str) -> list[str]:
    """Bring the archive up to date with the experiment's plan; returns the plan's `changes`.

    Raises NoRecords, DamagedFile, RunError.
    """
    path = results / tier / f"plan-{experiment}.json"
    try:
        advice_here = f"delete it and {advice(experiment, tier)}"
        plan = read_json(path, advice_here, experiment=str, changes=list, runs=list)
    except FileNotFoundError:
        raise NoRecords(f"{path} is missing; {advice(experiment, tier)}, or --redraw from the archive") from None
    if any("config" not in entry for entry in plan["runs"]):
        raise NoRecords(f"{path} is of an older version; {advice(experiment, tier)}")
    archive.export(plan, results / tier / "archive")
    return plan["changes"]


def advice(experiment: str, tier: str) -> str:
    return f"run: python sweep.py experiment={experiment} tier={tier}"


def load(folder: Path, experiment: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(runs, epochs) of an archive as typed tables; without rows if there is no archive.

    runs: the archive's columns; `setting`, 12 hex digits for the whole config without the seed; and `entry`, the label
    and, if several settings agree in label, lr, gamma and the other columns, what distinguishes them. epochs: the
    archive's columns, and those of the run that describe it. Raises NoRecords for an archive of an older version.
    """
    rows = archive.read(folder, experiment)
    runs, epochs = frame(rows[0], archive.COLUMNS), frame(rows[1], ("run", *METRICS))
    if runs["config"].isna().any():
        raise NoRecords(f"{folder}/{experiment}-runs.csv is of an older version: it lacks the runs' configs")
    runs["setting"] = runs["config"].map(archive.setting)
    runs["entry"] = entries(runs)
    return runs, runs[[*ABOUT, "run", "setting", "entry"]].merge(epochs, on="run")


def write(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as runs/table.py does; missing values are empty cells."""
    table.write(path, frame.astype(object).where(frame.notna(), None).to_dict("records"))


def frame(rows: list[dict], columns: Iterable[str] = ()) -> pd.DataFrame:
    """A table's rows with the types of runs/table.py; a missing value is NaN, in integer and bool columns NA."""
    names = dict.fromkeys([*columns, *(name for row in rows for name in row)])
    return pd.DataFrame({name: _series(name, [row.get(name) for row in rows]) for name in names})


def _series(name: str, values: list) -> pd.Series:
    kind = table.column(name).kind
    whole = {int: "int64", bool: "bool"}
    if kind in whole:
        return pd.Series(values, dtype=whole[kind] if None not in values else whole[kind].capitalize())
    return pd.Series(values, dtype={str: "str", float: "float64", dict: "object"}[kind])


def entries(runs: pd.DataFrame) -> pd.Series:
    """Each run's grid entry, with the settings in which it differs from other runs of the same cell."""
    configs = {setting: json.loads(config) for setting, config in zip(runs["setting"], runs["config"], strict=True)}
    found = runs["label"].copy()
    for _, rows in runs.groupby("label"):
        keys: set[str] = set()
        for _, cell in rows.groupby(CELL, dropna=False):
            several = [configs[setting] for setting in cell["setting"].unique()]
            everything = {key for config in several for key in config}
            keys |= {key for key in everything if len({str(config.get(key)) for config in several}) > 1} - {"seed"}
        for key in sorted(keys):
            part = rows["setting"].map(lambda setting, key=key: f", {key.split('.')[-1]} {configs[setting].get(key)}")
            found.loc[rows.index] += part
    return found


def incomplete(runs: pd.DataFrame) -> list[str]:
    """The entries of whose grids runs are missing."""
    return sorted(runs.loc[(runs["stage"] == "grid") & (runs["state"] == MISSING), "label"].unique())


def provenance(experiment: str, tier: str, changes: list[str], runs: pd.DataFrame) -> dict:
    """What a figure is made of: tier, seeds, runs, shared settings, and every environment that trained some runs."""
    ended = runs[runs["state"] != MISSING]
    reported = ended[ended["stage"] == "report"]  # seeds that selected are not shown
    reported = ended if reported.empty else reported
    environments = {json.dumps(one, sort_keys=True): one for one in ended["environment"]}
    return {
        "experiment": experiment,
        "tier": tier,
        "changes": changes,
        "shared": shared(runs),
        "seeds": sorted(reported["seed"].unique().tolist()),
        "runs": len(ended),
        "shown": len(reported),
        "missing": [named(run) for _, run in runs[runs["state"] == MISSING].iterrows()],
        "incomplete": incomplete(runs),
        "axes": {key: sorted(runs[key].dropna().unique().tolist()) for key in AXES},
        "entries": rows_of_grid(runs),
        "states": {state: int((ended["state"] == state).sum()) for state in ("finished", "diverged")},
        "training_seconds": round(ended["seconds"].sum(), 1),
        "seconds_per_run": round(ended["seconds"].mean(), 1),
        "environments": [environments[key] for key in sorted(environments)],
        "other_data": other_data(ended),
        "environment_changed_while_training": int((ended["environment_changes"] > 0).sum()),
    }


def other_data(ended: pd.DataFrame) -> list[str]:
    """The runs whose data differ from most others'. Runs older than the recorded fingerprints had verified data."""
    known = ended.dropna(subset="data")
    usual = known.groupby("dataset")["data"].agg(lambda found: found.mode()[0])
    return [named(run) for _, run in known[known["data"] != known["dataset"].map(usual)].iterrows()]


def shared(runs: pd.DataFrame) -> dict:
    """The settings, by their dotted names, in which all runs agree."""
    first, *others = (json.loads(config) for config in runs["config"].unique())
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def rows_of_grid(runs: pd.DataFrame) -> list[tuple[str, float | None]]:
    """(entry, gamma) of all runs: entries in the order of the grid, gammas in rising order."""
    found = runs[["entry", "gamma"]].drop_duplicates()
    order = found["entry"].map({entry: place for place, entry in enumerate(found["entry"].unique())})
    found = found.assign(order=order).sort_values(["order", "gamma"], na_position="first")
    return [
        (entry, None if pd.isna(gamma) else gamma) for entry, gamma in zip(found["entry"], found["gamma"], strict=True)
    ]


def named(run: pd.Series) -> str:
    parts = [run["entry"], f"lr {run['initial_lr']:g}"]
    parts += [f"{key} {run[key]:g}" for key in ("gamma", "depth") if pd.notna(run[key])]
    return ", ".join([*parts, f"seed {run['seed']}"])


def read_table(path: Path) -> list[dict]:
    """The rows of a table. Raises NoRecords if it does not exist."""
    try:
        return table.read(path)
    except FileNotFoundError:
        raise NoRecords(f"{path} is missing; nothing can be redrawn from it") from None


def only(table: pd.DataFrame, **wanted) -> pd.DataFrame:
    """The rows whose columns have these values; None is an empty cell."""
    mask = pd.Series(True, index=table.index)
    for name, value in wanted.items():
        mask &= table[name].isna() if value is None else table[name] == value
    return table[mask]


def best(epochs: pd.DataFrame, column: str, of: Any = "max") -> pd.DataFrame:
    """A row a run: its first epoch's row, but with the best value of `column` over its epochs."""
    values = epochs.groupby(RUN, sort=False)[column].agg(of).reset_index()
    return epochs.drop_duplicates(RUN).drop(columns=column).merge(values, on=RUN)


def last(epochs: pd.DataFrame) -> pd.DataFrame:
    """A row a run: that of its last epoch."""
    return epochs.drop_duplicates(RUN, keep="last")


def curves(epochs: pd.DataFrame, column: str) -> list[list[float]]:
    """The column's values by epoch, a list for each run, ordered by seed."""
    ordered = epochs.sort_values(["seed", "epoch"], kind="stable")
    return [values.tolist() for _, values in ordered.groupby(RUN, sort=False)[column]]


def parts(epochs: pd.DataFrame, column: str) -> tuple[list[list[float]], int]:
    """`curves` including evaluations within epochs, if runs have them, and the number of values per epoch."""
    within = [
        f"{column}_{number}"
        for number in range(1, 1 + sum(str(name).startswith(f"{column}_") for name in epochs.columns))
    ]
    within = [name for name in within if epochs[name].notna().any()]
    each = [curves(epochs, name) for name in (*within, column)]
    return [[value for row in zip(*run, strict=True) for value in row] for run in zip(*each, strict=True)], len(each)


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"error: {message}; see --help\n")


def options(doc: str | None, tier: str | None) -> argparse.ArgumentParser:
    """The parser of a figure's program. tier: the default of --tier."""
    parser = Parser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--tier", default=tier, choices=TIERS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--redraw", action="store_true", help="from the archive that is there, not from the runs")
    return parser


def command(draw) -> None:
    """Run `draw(arguments)` as a program. Errors are one line.

    Exit status 2 for nothing to draw, 1 for damage, 130 for Ctrl-C.
    """
    try:
        draw()
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
    except (NoRecords, ConfigError, RunError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, (RunError, DamagedFile, OSError)) else 2)
