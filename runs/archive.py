"""Ended runs as tables that git keeps, so that figures can be redrawn and sweeps resumed without the run folders.

results/<tier>/archive/<experiment>-runs.csv     a row a run: what it is, how it ended, where it was trained
results/<tier>/archive/<experiment>-epochs.csv   a row an epoch: run, and the columns of metrics.csv
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from runs import table
from runs.run import ENDED, Run, RunError

from .identity import canonical, setting_id

# What distinguishes the runs of an experiment: column name and setting.
ABOUT = {
    "dataset": "dataset.name", "model": "model.name", "depth": "model.depth", "init": "model.init",
    "optimizer": "optimizer.name", "initial_lr": "optimizer.lr", "gamma": "optimizer.gamma",
    "schedule": "schedule.name", "epochs": "epochs", "seed": "seed",
}  # fmt: skip
ENDING = ("state", "reason", "seconds", "data", "environment", "environment_changes")
COLUMNS = ("label", "stage", *ABOUT, "run", *ENDING, "config")
MISSING = "missing"  # the state of a planned run that has not ended


def export(plan: dict, folder: Path) -> None:
    """Bring the archive in `folder` up to date with a plan (the content of its JSON file).

    Runs that have ended here are taken from their folders. Others are kept as an archive of this tier has them: the
    experiment's own, or another's, since experiments share runs. Further seeds of a planned setting are also kept, and
    all runs of an entry whose setting is not chosen yet in the plan, since that choice may need them.
    Raises RunError for a run whose records are damaged.
    """
    known: dict[str, tuple[dict, list[dict]]] = {}
    for name in dict.fromkeys([plan["experiment"], *experiments(folder)]):
        before, rows = read(folder, name)
        histories: dict[str, list[dict]] = {}
        for row in rows:
            histories.setdefault(row["run"], []).append(row)
        for row in before:
            if row["state"] != MISSING:
                known.setdefault(row["run"], (row, histories.get(row["run"], [])))
    runs, epochs = [], {}
    for entry in plan["runs"]:
        run = Run(entry["folder"])
        ending = {"state": MISSING}
        if damaged := run.damaged():
            raise RunError(
                f"{run.folder / damaged[0]} is damaged; python sweep.py verify=true restores it or says what to do"
            )
        if run.ended():
            status = run.status()
            ending = {key: status.get(key) for key in ENDING[:-1]}
            ending["environment_changes"] = len(status["environment_changes"])
            epochs[run.id] = [{"run": run.id} | row for row in run.rows()]
        elif run.id in known:
            before, epochs[run.id] = known[run.id]
            ending = {key: before.get(key) for key in ENDING}
        about = described(entry) | {"run": run.id} | ending
        runs.append({key: about.get(key) for key in COLUMNS})
    planned = {(run["label"], run["stage"], setting(run["config"])) for run in runs}
    choosing = plan.get("choosing", {})
    for before, rows in [known[row["run"]] for row in read(folder, plan["experiment"])[0] if row["run"] in known]:
        about = before["label"], before["stage"], setting(before["config"]) if before["config"] else None
        waits = before["config"] and of_optimizer(json.loads(before["config"])) == choosing.get(before["label"])
        if before["run"] not in {run["run"] for run in runs} and (about in planned or waits):
            runs.append({key: before.get(key) for key in COLUMNS})
            epochs[before["run"]] = rows
    every = [row for rows in epochs.values() for row in rows]
    table.write(folder / f"{plan['experiment']}-epochs.csv", every or [{"run": None, "epoch": None}])
    table.write(folder / f"{plan['experiment']}-runs.csv", runs)  # last, so that the epochs of every listed run exist


def of_optimizer(config: Iterable[str]) -> list[str]:
    """The names of the optimizer's settings. Those of an older optimizer may be others."""
    return sorted(key for key in config if key.startswith("optimizer."))


def experiments(folder: Path) -> list[str]:
    """Names of the experiments that have an archive in a folder."""
    return sorted(path.name.removesuffix("-runs.csv") for path in folder.glob("*-runs.csv"))


def read(folder: Path, experiment: str) -> tuple[list[dict], list[dict]]:
    """(runs, epochs): the rows of both tables, empty without tables. A run without all its epochs counts as missing."""
    runs, epochs = (_read(folder / f"{experiment}-{part}.csv") for part in ("runs", "epochs"))
    found: dict[str, list[int]] = {}
    for row in epochs:
        found.setdefault(row["run"], []).append(row["epoch"])
    gone = {run["run"] for run in runs if not _complete(run, found.get(run["run"], []))}
    runs = [run | dict.fromkeys(ENDING) | {"state": MISSING} if run["run"] in gone else run for run in runs]
    return runs, [row for row in epochs if row["run"] and row["run"] not in gone]


def _complete(run: dict, epochs: list[int]) -> bool:
    """Whether these are all the epochs of a run that ended as its row says."""
    early = re.search(r"in epoch (\d+)$", run.get("reason") or "")
    asked = int(early[1]) if early else run.get("epochs") or 0
    return run.get("state") in ENDED and epochs == list(range(1, asked + 1))


def rows_by_run(results: Path) -> dict[str, list[dict]]:
    """The epochs of every run in the archive of a tier's results, by the run's id."""
    found: dict[str, list[dict]] = {}
    for name in experiments(results / "archive"):
        part: dict[str, list[dict]] = {}
        for row in read(results / "archive", name)[1]:
            part.setdefault(row["run"], []).append(row)
        found |= part
    return found


def described(entry: dict) -> dict:
    """What distinguishes the runs of an experiment, from a plan's entry; `config` as one string."""
    config = entry["config"]
    about = {key: config.get(setting) for key, setting in ABOUT.items()}
    if about["gamma"] is None:
        about["gamma"] = config.get("optimizer.arguments.gamma")  # for an optimizer that has no schema
    return {"label": entry["label"], "stage": entry["stage"]} | about | {"config": canonical(config)}


def setting(config: str) -> str:
    """12 hex digits for a run's config as the archive has it, without its seed."""
    return setting_id(json.loads(config))


def _read(path: Path) -> list[dict]:
    try:
        return table.read(path)
    except FileNotFoundError:
        return []
