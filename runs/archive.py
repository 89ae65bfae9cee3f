"""Ended runs as tables that git keeps, so that figures redraw and sweeps go on where the runs are not.

results/<tier>/archive/<experiment>-runs.csv     a row a run: what it is, how it ended, where it was trained
results/<tier>/archive/<experiment>-epochs.csv   a row an epoch: run, and the columns of metrics.csv
"""

import csv
import io
import json
from pathlib import Path

from runs.run import Run, write_atomically

WORDS = {
    "run", "label", "stage", "dataset", "model", "init", "optimizer", "schedule", "state", "reason", "setting",
    "chosen", "ended", "claim", "section", "verdict", "evidence",
}  # fmt: skip
WHOLE = {"depth", "seed", "epoch", "epochs", "environment_changes"}
MISSING = "missing"  # the state of a run that the plan asks for and that has not ended


def export(plan: dict, folder: Path) -> None:
    """Bring the archive in `folder` up to date with a plan (the content of its JSON file).

    Runs that have ended here are taken from their folders; the others stay as the archive has them, if it does.
    """
    known = {row["run"]: row for row in _read(folder / f"{plan['experiment']}-runs.csv") if row["state"] != MISSING}
    histories: dict[str, list[dict]] = {}
    for row in _read(folder / f"{plan['experiment']}-epochs.csv"):
        histories.setdefault(row["run"], []).append(row)
    runs, epochs = [], []
    for entry in plan["runs"]:
        run = Run(entry["folder"])
        about = described(entry) | {"run": run.id}
        if run.ended():
            status = run.status()
            ending = {key: status[key] for key in ("state", "reason", "seconds")}
            where = {"environment": status["environment"]}
            about |= ending | where | {"environment_changes": len(status["environment_changes"])}
            epochs += [{"run": run.id} | row for row in run.rows()]
        elif run.id in known:
            about = known[run.id] | about
            epochs += histories.get(run.id, [])
        else:
            about |= {"state": MISSING}
        runs.append(about)
    write_table(folder / f"{plan['experiment']}-runs.csv", runs)
    write_table(folder / f"{plan['experiment']}-epochs.csv", epochs or [{"run": None, "epoch": None}])


def load(folder: Path, experiment: str) -> tuple[list[dict], list[dict]]:
    """(runs, epochs): the rows of both tables; an epoch's row also says what its run is."""
    runs = _read(folder / f"{experiment}-runs.csv")
    about = {run["run"]: run for run in runs}
    skipped = ("state", "reason", "seconds", "environment", "environment_changes")
    settings = {name: {k: v for k, v in run.items() if k not in skipped} for name, run in about.items()}
    epochs = [settings[row["run"]] | row for row in _read(folder / f"{experiment}-epochs.csv") if row["run"]]
    return runs, epochs


def rows_by_run(results: Path) -> dict[str, list[dict]]:
    """The epochs of every run in the archive of a tier's results, by the run's identity."""
    found: dict[str, list[dict]] = {}
    for path in sorted((results / "archive").glob("*-epochs.csv")):
        part: dict[str, list[dict]] = {}
        for row in _read(path):
            part.setdefault(row["run"], []).append(row)
        found |= part
    return found


def described(entry: dict) -> dict:
    """What tells the runs of an experiment apart, from a plan's entry."""
    model, optimizer = entry["model"], entry["optimizer"]
    return {
        "label": entry["label"],
        "stage": entry["stage"],
        "dataset": entry["dataset"],
        "model": model["name"],
        "depth": model.get("depth"),
        "init": model.get("init"),
        "optimizer": optimizer["name"],
        "initial_lr": optimizer["lr"],
        "gamma": optimizer.get("gamma", optimizer.get("arguments", {}).get("gamma")),
        "schedule": entry["schedule"],
        "epochs": entry["epochs"],
        "seed": entry["seed"],
    }


def write_table(path: Path, rows: list[dict]) -> None:
    """CSV with six significant digits, all columns in the order in which they first come, "" for None."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(key)) for key in columns] for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue().encode())


def read_table(path: Path) -> list[dict]:
    """The rows of a table written by write_table, numbers as numbers. Raises FileNotFoundError."""
    with open(path, newline="") as file:
        return [{key: _parsed(key, text) for key, text in row.items()} for row in csv.DictReader(file)]


def _read(path: Path) -> list[dict]:
    return read_table(path) if path.exists() else []


def _cell(value) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _parsed(key: str, text: str):
    if text == "":
        return None
    if key in WORDS:
        return text
    if key == "environment":
        return json.loads(text)
    return int(text) if key in WHOLE or key.startswith("dead_units") else float(text)
