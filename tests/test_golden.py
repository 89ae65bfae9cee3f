"""What may never change: the names of the runs in git's archive, and the numbers that two small runs compute."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from analysis.looks import LOOKS
from data.tensors import derived_seed
from runs import cli
from runs.identity import identity
from training import trainer
from training.build import build_model
from training.execute import execute

from .helpers import ROOT, TIMES, composed, plan_of

GOLDEN = Path(__file__).with_name("golden")
ARCHIVES = sorted((ROOT / "results").glob("*/archive/*-runs.csv"))
IDS = yaml.safe_load((GOLDEN / "ids.yaml").read_text())
TRAJECTORIES = json.loads((GOLDEN / "trajectories.json").read_text())
MLP = {"epochs": 3, "optimizer.gamma": 0.6, "optimizer.lr": 0.01, "dataset.subset": 210}
CNN = MLP | {"dataset.augment": "crop_flip", "optimizer.weight_decay": 5e-4}
SMALL = ["dataset=synthetic", "optimizer=powersgdm", "wandb.mode=disabled", "device=cpu", "batch_size=32"]
RUNS = {
    "mlp": [*SMALL, "model=mlp", "model.depth=3", "model.width=16"],
    "cnn-step": [*SMALL, "model=resnet50", "model.blocks=[1,1,1,1]", "model.width=4", "schedule=step",
                 "schedule.milestones=[1,2]"],
    "cnn-restarts": [*SMALL, "model=resnet50", "model.blocks=[1,1,1,1]", "model.width=4", "schedule=warm_restarts",
                     "schedule.first=1", "schedule.longer=2"],
}  # fmt: skip


def archived(path: Path) -> set[str]:
    with open(path, newline="") as file:
        return {row["run"] for row in csv.DictReader(file) if row["state"] != "missing"}


@pytest.mark.parametrize("path", ARCHIVES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_every_run_in_the_archive_is_what_its_experiment_composes_today(path, tmp_path):
    given = [f"experiment={path.stem.removesuffix('-runs')}", f"tier={path.parts[-3]}", "archive=true"]
    given += [f"results={ROOT / 'results'}", f"runs={tmp_path}"]
    planned = {job.run.id for job in plan_of(*given, seeds=range(LOOKS[-1]))}  # decide=hours may have added some
    assert archived(path) and not archived(path) - planned


@pytest.mark.parametrize("name", IDS)
def test_a_name_spelled_out_is_that_of_its_config(name):
    assert identity(IDS[name]["config"]) == name
    assert identity(cli.plain(composed(*IDS[name]["overrides"]))) == name


def test_the_seeds_of_a_purpose_are_the_committed_ones():
    """The weights, order and augmentation of every run so far depend on them."""
    seeds = {
        (0, "weights"): 133441691874178746,
        (0, "training"): 3451234928535173333,
        (1, "order", 0): 433034383059858670,
        (1, "order", 10): 5773734292940225847,
        (3, "augmentation", 2): 1615305866224140298,
        (0, "subset", 4): 5822554057859768280,
        (0, "validation", 9): 5112967416653540267,
    }
    assert {given: derived_seed(*given) for given in seeds} == seeds


def trajectory(name: str, folder: Path) -> list[dict]:
    """The rows of a run of 3 epochs on 210 made-up images in batches of 32, so the last batch is smaller."""
    changes = (MLP if name == "mlp" else CNN) | {
        "results": str(folder),
        "runs": str(folder / "runs"),
        "progress": False,
    }
    overrides = [*RUNS[name], *(f"{key}={value}" for key, value in changes.items())]
    run = execute(cli.typed(composed(*overrides)))
    return [{key: value for key, value in row.items() if key not in TIMES} for row in run.rows()]


@pytest.mark.parametrize("name", RUNS)
def test_a_small_run_computes_the_committed_numbers_in_float64(name, tmp_path, monkeypatch):
    """In float32 processors differ in the last bits, which a network with gamma below 1 magnifies within an epoch."""

    def double(config):
        model = build_model(config).double()
        model.register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
        return model

    monkeypatch.setattr(trainer, "build_model", double)
    compare(trajectory(name, tmp_path), TRAJECTORIES[name], 1e-9)


def test_a_small_run_computes_the_committed_numbers_in_float32(tmp_path):
    compare(trajectory("mlp", tmp_path), TRAJECTORIES["mlp-float32"], 1e-4)


def compare(rows: list[dict], committed: list[dict], tolerance: float) -> None:
    assert [list(row) for row in rows] == [list(row) for row in committed]
    for row, golden in zip(rows, committed, strict=True):
        assert row == pytest.approx(golden, rel=tolerance, nan_ok=False)
