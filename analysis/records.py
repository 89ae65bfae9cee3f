"""From the runs of a plan to the tidy rows of its archive, and their provenance."""

import argparse
import json
import statistics
import sys
from pathlib import Path

from runs.archive import MISSING, export, load, write_table
from runs.archive import read_table as read

__all__ = ["NoRecords", "best", "by_seed", "collect", "command", "grid_scores", "options", "read_table", "select",
           "write_table"]  # fmt: skip

AXES = ("initial_lr", "gamma", "depth")  # what a grid varies; with the runs that are missing


class NoRecords(Exception):
    """There is nothing to draw; the message says what to run."""


def collect(results: Path, tier: str, experiment: str, redraw: bool = False) -> tuple[list[dict], dict]:
    """The rows of all ended runs of an experiment, an epoch each, and where they come from.

    Brings the archive up to date with the runs of the experiment's plan first, unless `redraw`. A row has the grid
    entry's label and stage, the run's settings and seed, the metrics of the epoch and the run's id. Runs that have
    not ended contribute nothing and are counted as missing in the provenance. Raises NoRecords without ended runs.
    """
    folder = results / tier / "archive"
    path = results / tier / f"plan-{experiment}.json"
    advice = f"run: python sweep.py experiment={experiment} tier={tier}"
    changes = []
    if not redraw:
        try:
            plan = json.loads(path.read_text())
        except FileNotFoundError:
            raise NoRecords(f"{path} is missing; {advice}, or --redraw from the archive") from None
        export(plan, folder)
        changes = plan["changes"]
    runs, rows = load(folder, experiment)
    if not rows:
        raise NoRecords(f"no run of {experiment} at tier {tier} has ended; {advice}")
    return rows, provenance(experiment, tier, changes, runs)


def provenance(experiment: str, tier: str, changes: list[str], runs: list[dict]) -> dict:
    """What a figure is made of: tier, seeds, runs, and every environment that trained some of them."""
    ended = [run for run in runs if run["state"] != MISSING]
    reported = [run for run in ended if run["stage"] == "report"] or ended  # seeds that selected are not shown
    environments = {json.dumps(run["environment"], sort_keys=True): run["environment"] for run in ended}
    return {
        "experiment": experiment,
        "tier": tier,
        "changes": changes,
        "seeds": sorted({run["seed"] for run in reported}),
        "runs": len(ended),
        "shown": len(reported),
        "missing": [named(run) for run in runs if run["state"] == MISSING],
        "axes": {key: sorted({run[key] for run in runs if run[key] is not None}) for key in AXES},
        "entries": entries(runs),
        "states": {state: sum(run["state"] == state for run in ended) for state in ("finished", "diverged")},
        "training_seconds": round(sum(run["seconds"] for run in ended), 1),
        "seconds_per_run": round(statistics.mean(run["seconds"] for run in ended), 1),
        "environments": [environments[key] for key in sorted(environments)],
        "environment_changed_while_training": sum(bool(run["environment_changes"]) for run in ended),
    }


def entries(runs: list[dict]) -> list[tuple[str, float | None]]:
    """(label, gamma) of all runs: labels in the order of the grid, gammas rising."""
    labels = list(dict.fromkeys(run["label"] for run in runs))
    found = {(run["label"], run["gamma"]) for run in runs}
    return sorted(found, key=lambda pair: (labels.index(pair[0]), -1.0 if pair[1] is None else pair[1]))


def named(run: dict) -> str:
    parts = [run["label"], f"lr {run['initial_lr']:g}"]
    parts += [f"{key} {run[key]:g}" for key in ("gamma", "depth") if run[key] is not None]
    return ", ".join([*parts, f"seed {run['seed']}"])


def read_table(path: Path) -> list[dict]:
    """The rows of a table written by write_table, numbers as numbers. Raises NoRecords where there is none."""
    try:
        return read(path)
    except FileNotFoundError:
        raise NoRecords(f"{path} is missing; nothing can be redrawn from it") from None


def select(rows: list[dict], **wanted) -> list[dict]:
    """The rows whose columns have these values."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def best(rows: list[dict], column: str, of=max) -> list[float]:
    """The best value of each run, over its epochs."""
    runs: dict[str, list[float]] = {}
    for row in rows:
        runs.setdefault(row["run"], []).append(row[column])
    return [of(values) for values in runs.values()]


def by_seed(rows: list[dict], column: str) -> dict[int, list[float]]:
    """A column's values in order of epochs, for each seed."""
    series: dict[int, dict[int, float]] = {}
    for row in rows:
        series.setdefault(row["seed"], {})[row["epoch"]] = row[column]
    return {seed: [value for _, value in sorted(values.items())] for seed, values in sorted(series.items())}


def grid_scores(rows: list[dict]) -> dict[str, list[float]]:
    """By grid entry: the best test accuracy of each setting of the grid, mean over the seeds that selected."""
    rows = [row for row in rows if row["stage"] == "grid"]
    found: dict[str, list[float]] = {}
    for setting in dict.fromkeys((row["label"], row["initial_lr"], row["gamma"]) for row in rows):
        chosen = [row for row in rows if (row["label"], row["initial_lr"], row["gamma"]) == setting]
        runs = best(chosen, "test_acc")
        found.setdefault(setting[0], []).append(sum(runs) / len(runs))
    return found


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"error: {message}; see --help\n")


def options(doc: str, tier: str) -> argparse.ArgumentParser:
    """The parser of a figure's program; tier is its default."""
    parser = Parser(description=doc.splitlines()[0])
    parser.add_argument("--tier", default=tier, choices=["paper", "laptop", "smoke", "custom"])
    parser.add_argument("--results", type=Path, default=Path(__file__).resolve().parent.parent / "results")
    parser.add_argument("--redraw", action="store_true", help="from the archive that is there, not from the runs")
    return parser


def command(draw) -> None:
    """Run a figure's `draw(arguments)` as a program; nothing to draw is one line and exit status 2."""
    try:
        draw()
    except (NoRecords, OSError, json.JSONDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
