"""What a dashboard shows: the experiments of each tier's archive, their runs, and the paper's values. Without W&B."""

import functools
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from runs import archive
from runs.identity import nested
from runs.schema import TIERS
from training import view

REFERENCE = "paper_reference.yaml"
PANELS = {("cifar10", "resnet50"): "fig1ab", ("cifar10", "densenet121"): "fig1cd", ("cifar100", "wrn26"): "fig1ef",
          ("cifar100", "resnext29"): "fig1gh", ("imagenet", "resnet50_imagenet"): "fig1ij"}  # fmt: skip


def experiments(results: Path) -> list[tuple[str, str]]:
    """(tier, experiment) of every archive, tiers as in TIERS."""
    found = [
        (path.parts[-3], path.name.removesuffix("-runs.csv")) for path in results.glob("*/archive/*-runs.csv")
    ]  # fmt: skip
    return sorted(found, key=lambda pair: (TIERS.index(pair[0]) if pair[0] in TIERS else len(TIERS), pair[1]))


@dataclass
class Archived:
    """A run of the archive: what W&B gets about it, its epochs, and how it ended."""

    id: str
    about: view.About
    rows: list[dict]
    batch_size: int
    ending: dict


def archived(results: Path) -> list[Archived]:
    """Every run of every archive once, with all experiments that use it."""
    runs: dict[str, dict] = {}
    rows: dict[str, list[dict]] = {}
    uses: dict[str, list[tuple[str, str, bool]]] = {}
    for tier, experiment in experiments(results):
        about, epochs = archive.read(results / tier / "archive", experiment)
        tuned = any(run["stage"] == "report" for run in about)
        ended = {run["run"]: run | {"tier": tier} for run in about if run["state"] != archive.MISSING}
        runs |= {id: run for id, run in ended.items() if id not in runs}
        for id, run in ended.items():
            uses.setdefault(id, []).append((experiment, run["stage"], tuned))
        found: dict[str, list[dict]] = {}
        for row in epochs:
            found.setdefault(row["run"], []).append({key: value for key, value in row.items() if key != "run"})
        rows |= found
    return [_archived(id, run, rows.get(id, []), uses[id]) for id, run in runs.items()]


def _archived(id: str, run: dict, rows: list[dict], uses: list[tuple[str, str, bool]]) -> Archived:
    computed = json.loads(run["config"])
    _, stage, tuned = max(uses, key=lambda use: use[1] == "report")
    job = view.job_type(nested(computed), stage, tuned)
    about = view.about(computed, run["environment"], run["tier"], [name for name, *_ in uses], job)
    about.tags.append("archive")
    curve = f"{about.config['curve']} (archive)"  # the same run trained anew has its own curve
    date = committed(run["environment"].get("commit"))
    about.config.update(origin="archive", curve=curve, commit_date=date)
    ending = {"state": run["state"], "reason": run["reason"], "perf/total_seconds": run["seconds"]}
    return Archived(id, about, rows, computed["batch_size"], ending)


@functools.cache
def committed(commit: str | None) -> str | None:
    """When a run's code was committed, a time before the run; None outside git."""
    command = ["git", "-C", str(Path(__file__).parent), "show", "-s", "--format=%cI", (commit or "").rstrip("+")]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if commit and done.returncode == 0 else None


def paper_values(results: Path) -> list[tuple[str, view.About, dict]]:
    """(id, about, summary) of every accuracy stated in the paper, for each tier that has runs to compare with it."""
    paper = yaml.safe_load((results / REFERENCE).read_text())
    entries = [(PANELS[entry["dataset"], entry["model"]], entry) for entry in paper["figure1"]]
    entries += [("fig2", {"dataset": "mnist", "model": "mlp"} | entry) for entry in paper["figure2"]]
    entries += [("fig5", entry) for entry in paper["figure5"]["stated"]]
    entries += [("fig7", {"dataset": "cifar10", "model": "resnet50"} | entry) for entry in paper["figure7"]]
    found = []
    for tier, experiment in experiments(results):
        for number, (where, entry) in enumerate(entries):
            column = "train_acc" if "train_acc" in entry else "best_test_acc"
            if where != experiment or entry.get(column) is None:
                continue
            config = {key: value for key, value in entry.items() if key not in (column, "words", "section")}
            name = f"the paper: {', '.join(str(config[key]) for key in ('optimizer', 'schedule') if key in config)}"
            tags = [tier, experiment, "the paper"]
            about = view.About(
                name, "the paper", "paper", tags, config | {"tier": tier, "origin": "paper", "curve": name}
            )
            values = {"train/last_acc" if column == "train_acc" else "test/best_acc": entry[column]}
            found.append((f"paper-{experiment}-{tier}-{number}", about, values))
    return found
