"""A run as W&B shows it: metrics in sections, summaries, config, group, job type and tags. Does not import wandb.

metrics.csv keeps its own column names; these are the names that a W&B user looks for.
"""

import functools
import json
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runs import table
from runs.code import CONTROLS
from runs.files import read_json
from runs.identity import nested, run_name, setting_id
from runs.run import Run
from runs.schema import ConfigError

SECTIONS = {
    "train_loss": "train/loss", "train_acc": "train/acc", "train_eval_loss": "train/eval_loss",
    "train_eval_acc": "train/eval_acc", "test_loss": "test/loss", "test_acc": "test/acc",
    "validation_loss": "validation/loss", "validation_acc": "validation/acc", "lr": "optim/lr",
    "grad_norm1": "optim/grad_norm1", "powered_norm1": "optim/powered_norm1", "seconds": "perf/seconds",
    "images_per_second": "perf/images_per_second",
}  # fmt: skip
ORDER = ("test", "train", "validation", "optim", "perf", "layers")  # of sections; every other column goes to layers
AXES = ("epoch", "step", "images_seen")
BATCH = ("train/batch_loss", "train/batch_acc")  # with wandb.log_every
ACCURACIES = ("train_acc", "train_eval_acc", "test_acc", "validation_acc")
REACH = 0.95  # of the best accuracy, as in protocol.reach
PLAIN = ("lr", "gamma", "momentum", "weight_decay", "depth", "width", "init")  # shown without their section's name
ENVIRONMENT = ("device", "processor", "threads", "world_size", "python", "torch", "commit")


def shown(row: dict, batch_size: int) -> tuple[int, dict[str, float]]:
    """(step, metrics by section) of a row of metrics.csv: axes first, layers last, empty cells left out."""
    images = round(row["seconds"] * row["images_per_second"])  # of the epoch
    step = row["epoch"] * math.ceil(images / batch_size)
    found: dict[str, float] = dict(zip(AXES, (row["epoch"], step, row["epoch"] * images), strict=True))
    found |= {name: row[column] for column, name in SECTIONS.items() if row.get(column) is not None}
    others = {
        f"layers/{column}": value for column, value in row.items() if column not in SECTIONS and column != "epoch"
    }
    return step, found | {name: value for name, value in others.items() if value is not None}


def summaries(rows: list[dict]) -> dict[str, float]:
    """Best and last value of each accuracy; for the test set also the best epoch and the first to reach 95 % of it."""
    found: dict[str, float] = {}
    for column in ACCURACIES:
        values = [row[column] for row in rows if row.get(column) is not None]
        if values:
            section, name = SECTIONS[column].split("/")
            found |= {f"{section}/best_{name}": max(values), f"{section}/last_{name}": values[-1]}
    tested = {row["epoch"]: row["test_acc"] for row in rows}
    if tested:
        best = max(tested.values())
        found["test/best_epoch"] = next(epoch for epoch, accuracy in tested.items() if accuracy == best)
        found["test/epochs_to_95_percent"] = next(epoch for epoch, acc in tested.items() if acc >= REACH * best)
    return found


@dataclass(frozen=True)
class About:
    """What W&B gets about a run before its first row."""

    name: str
    group: str  # the setting without its seed
    job_type: str
    tags: list[str]
    config: dict[str, Any]


def about(computed: dict[str, Any], environment: dict, tier: str, experiments: list[str], job: str) -> About:
    """computed: the scientific settings by dotted path; experiments: those that use the run."""
    config = nested(computed)
    setting, name = setting_id(computed), run_name(config)
    origin = {"run": name.rsplit("-", 1)[-1], "setting": setting, "tier": tier, "origin": "training"}
    where = {key: environment[key] for key in ENVIRONMENT if key in environment}
    tags = [tier, *(config[section]["name"] for section in ("dataset", "model", "optimizer")), *experiments]
    group = f"{name.rsplit('-', 2)[0]}-{setting}"
    # Runs with the same `curve` are averaged: the seeds that select a setting are not mixed with those that report it.
    origin["curve"] = f"{group} {job}" if job in ("select", "refine") else group
    return About(name, group, job, list(dict.fromkeys(tags)), flat(computed) | origin | network(config) | where)


def flat(computed: dict[str, Any]) -> dict[str, Any]:
    """Settings by a short name each: `optimizer` for `optimizer.name`, `lr` for `optimizer.lr`."""
    found = {}
    for path, value in computed.items():
        section, _, key = path.rpartition(".")
        name = section if key == "name" else key if key in PLAIN else path.replace(".", "_")
        found[name] = value
    return found


def network(config: dict) -> dict[str, int]:
    """Parameters, and multiply-adds of one image's forward pass; {} for a user's own network."""
    dataset = config["dataset"]
    return _network(json.dumps(config["model"]), tuple(dataset["image_shape"]), dataset["num_classes"])


@functools.cache
def _network(model: str, image_shape: tuple[int, ...], num_classes: int) -> dict[str, int]:
    from models.size import size  # imports torch, which takes seconds and is not always needed here

    if "class_path" in json.loads(model):
        return {}
    parameters, products = size(json.loads(model), list(image_shape), num_classes)
    return {"parameters": parameters, "multiply_adds": products}


def uses(run: str, results: Path) -> dict[str, str]:
    """Every experiment whose plan or archive contains the run with this id, and the run's stage there.

    Damaged files are skipped: only tags depend on them.
    """
    found = {}
    for path in [*sorted(results.glob("*/archive/*-runs.csv")), *sorted(results.glob("*/plan-*.json"))]:
        if run.encode() not in path.read_bytes():
            continue
        with suppress(ConfigError):
            if path.suffix == ".csv":
                name, stages = path.stem.removesuffix("-runs"), {row["run"]: row["stage"] for row in table.read(path)}
            else:
                plan = read_json(path, "", experiment=str, runs=list)
                name = plan["experiment"]
                stages = {Run(entry["folder"]).id: entry["stage"] for entry in plan["runs"]}
            found |= {name: stages[run]} if run in stages else {}
    return found


def job_type(config: dict, stage: str | None, tuned: bool) -> str:
    """select, refine, report, control or single; stage: that of the experiment's protocol, None without one.

    A control's runs that select are no different from others', so that its curve has the reporting seeds alone.
    """
    role = {"grid": "select" if tuned else "report", "extend": "refine", "final": "select"}.get(stage or "", stage)
    control = (config["optimizer"].get("class_path") or "").startswith(CONTROLS)
    return "control" if control and role not in ("select", "refine") else role or "single"
