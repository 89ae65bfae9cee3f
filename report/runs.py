"""The runs behind a verdict: what each was, how far it got, and how to train it again. Small enough for a page."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import records
from runs.archive import MISSING

COLUMNS = ("run", "entry", "initial_lr", "gamma", "depth", "init", "seed", "state", "epochs", "best_train_acc",
           "best_test_acc", "last_train_loss", "seconds", "commit")  # fmt: skip


def of_experiment(results: Path, tier: str, experiment: str) -> dict | None:
    """The ended runs of an archive, each as a list of values for COLUMNS, and the settings that all share."""
    runs, epochs = records.load(results / tier / "archive", experiment)
    runs = runs[runs["state"] != MISSING].drop_duplicates("run")
    if runs.empty:
        return None
    found = epochs.drop_duplicates(["run", "epoch"]).groupby("run")
    far = pd.DataFrame({"epochs": found["epoch"].max(), "best_train_acc": found["train_acc"].max(),
                        "best_test_acc": found["test_acc"].max(), "last_train_loss": found["train_loss"].last(),
                        }).reindex(runs["run"])  # fmt: skip
    runs = runs.drop(columns="epochs").set_index("run", drop=False).join(far)
    runs["commit"] = [environment.get("commit") for environment in runs["environment"]]
    rows = [[_short(value) for value in row] for row in runs[list(COLUMNS)].itertuples(index=False)]
    return {"runs": rows, "shared": records.shared(runs), "differs": _differs(runs)}


def _differs(runs: pd.DataFrame) -> list[str]:
    """The settings in which the runs differ, by their dotted names."""
    shared = records.shared(runs)
    return sorted({key for config in runs["config"].unique() for key in json.loads(config)} - set(shared))


def _short(value):
    """A value for JSON; floats have four significant digits."""
    if isinstance(value, float | np.floating):
        return float(f"{value:.4g}") if np.isfinite(value) else None
    if value is None or value is pd.NA:
        return None
    return int(value) if isinstance(value, np.integer) else value


def places(runs: tuple[str, ...], among: list[str]) -> str:
    """The positions of some runs in a list, as ranges: "0-3 7"."""
    index = {run: place for place, run in enumerate(among)}
    found = sorted(index[run] for run in runs)
    starts = [place for place in found if place - 1 not in found]
    ends = [place for place in found if place + 1 not in found]
    return " ".join(f"{start}-{end}" if end > start else str(start) for start, end in zip(starts, ends, strict=True))
