"""The CIFAR and ImageNet rows of Table 2 through the whole program, on made-up or real data."""

import hashlib
import math
import os
import warnings
from pathlib import Path

import pytest
import torch

from data import cifar
from data.errors import DataError
from runs import cli
from runs.run import Run
from training.execute import execute
from training.trainer import Trainer

from .helpers import ROOT, assert_same, composed, outcome, typed

ROWS = {"fig1ab": "cifar10", "fig1cd": "cifar10", "fig1ef": "cifar100", "fig1gh": "cifar100"}


def small(tmp_path, *overrides: str):
    """A run of seconds on made-up images, augmented as CIFAR is."""
    return cli.typed(
        composed("dataset=synthetic", "dataset.augment=crop_flip", "dataset.subset=160", "batch_size=32", "epochs=4",
                 "model=resnet50", "model.blocks=[1,1,1,1]", "model.width=4", "wandb.mode=disabled",
                 "device=cpu", f"results={tmp_path}", *overrides)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("schedule", "precision"), [pytest.param("step", "fp16", marks=pytest.mark.slow), ("warm_restarts", "fp32")]
)
def test_a_run_stopped_after_every_few_steps_ends_with_the_bits_of_an_unbroken_one(
    tmp_path, monkeypatch, schedule, precision
):
    """Augmentation, momentum, the schedule within an epoch, BatchNorm's averages and fp16's scale are all restored."""
    shape = ["schedule.milestones=[1,2]"] if schedule == "step" else ["schedule.first=1"]
    settings = [f"schedule={schedule}", *shape, f"precision={precision}", "optimizer=powersgdm"]
    whole = outcome(execute(small(tmp_path / "whole", *settings)))

    class Stop(Exception):
        pass

    config = small(tmp_path / "broken", *settings, "checkpoint_seconds=0")
    step, left = Trainer.train_step, 7

    def interrupted(self, inputs, labels):
        nonlocal left
        if left == 0:
            left = 7
            raise Stop
        left -= 1
        step(self, inputs, labels)

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    stops = 0
    while True:
        try:
            broken = execute(config)
            break
        except Stop:
            stops += 1
    assert stops == 2  # 20 steps, in sessions of 7
    assert_same(whole, outcome(broken))


def rates(tmp_path, monkeypatch, *overrides: str) -> list[float]:
    """The learning rate of every step of 3 epochs: of 5 steps each, as 150 images are 4 batches of 32 and one of 22."""
    step, seen = Trainer.train_step, []

    def watching(self, inputs, labels):
        seen.append(self.optimizer.param_groups[0]["lr"])
        step(self, inputs, labels)

    monkeypatch.setattr(Trainer, "train_step", watching)
    execute(small(tmp_path, "dataset.subset=150", "epochs=3", "optimizer=sgdm", *overrides))
    return seen


def test_a_drop_of_the_learning_rate_comes_with_the_first_step_of_its_epoch(tmp_path, monkeypatch):
    dropped = rates(tmp_path, monkeypatch, "schedule=step", "schedule.milestones=[1,2]")
    assert dropped == pytest.approx([0.01] * 5 + [0.001] * 5 + [0.0001] * 5)


def test_a_warm_restart_comes_with_the_first_step_of_its_epoch(tmp_path, monkeypatch):
    """A cycle of 5 steps, then one of 10: the cosine of the step's place in its cycle."""
    warm = rates(tmp_path, monkeypatch, "schedule=warm_restarts", "schedule.first=1", "schedule.longer=2")
    places = [step / 5 for step in range(5)] + [step / 10 for step in range(10)]
    assert warm == pytest.approx([0.01 * (1 + math.cos(math.pi * place)) / 2 for place in places])


def test_the_learning_rate_follows_the_schedule(tmp_path):
    step = execute(small(tmp_path / "a", "schedule=step", "schedule.milestones=[1,3]", "optimizer=sgdm"))
    assert [row["lr"] for row in step.rows()] == pytest.approx([0.01, 0.001, 0.001, 0.0001])
    warm = execute(small(tmp_path / "b", "schedule=warm_restarts", "schedule.first=1", "optimizer=sgdm"))
    # Cycles of 1 and 2 epochs: restarts at epochs 1 and 3, half the rate in the middle of the second cycle.
    assert [row["lr"] for row in warm.rows()] == pytest.approx([0.01, 0.01, 0.005, 0.01])


def test_accumulation_without_batchnorm_is_the_same_step():
    def weights(accumulate):
        torch.manual_seed(0)
        config = cli.typed(composed("dataset=synthetic", "model.depth=3", "model.width=8", f"accumulate={accumulate}"))
        trainer = Trainer(config, torch.device("cpu"), images=160)
        trainer.train_step(torch.randn(30, 3, 32, 32), torch.arange(30) % 10)
        return trainer.model.state_dict()

    def counted(labels, accumulate):
        config = cli.typed(composed("dataset=synthetic", "model=mlp", f"accumulate={accumulate}"))
        trainer = Trainer(config, torch.device("cpu"), images=config.batch_size + len(labels))
        trainer.step = 1  # the last, of fewer images
        trainer.train_step(torch.ones(len(labels), 3, 32, 32), labels)
        return trainer.sums[:3]

    few = torch.arange(2)  # of fewer images than parts
    assert counted(few, 4).isfinite().all()
    torch.testing.assert_close(counted(few, 4), counted(few, 1))
    one, four = weights(1), weights(4)
    for name in one:
        torch.testing.assert_close(one[name], four[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "experiment", ["fig1ab", "fig1gh", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fig1cd", "fig1ef"))]
)
def test_each_row_of_table_2_runs_at_the_smoke_tier_on_the_real_data(experiment, tmp_path, real_cifar):
    done = train(f"experiment={experiment}", "tier=smoke", "dataset.subset=200", "epochs=1", f"results={tmp_path}",
                 f"data_dir={real_cifar}", "dataset.verify=false")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = map(Run, (tmp_path / "runs").iterdir())
    assert run.ended() and run.rows()[0]["test_acc"] > 0
    changed = any(
        hashlib.md5((real_cifar / cifar.SOURCES[ROWS[experiment]].folder / file).read_bytes()).hexdigest() != md5
        for file, md5 in cifar.SOURCES[ROWS[experiment]].test.items()
    )
    log = run.folder / "log.txt"
    assert (log.exists() and "verify=false" in log.read_text()) == changed  # a mirror's files are noted in the run


def test_imagenet_s_row_runs_at_the_smoke_tier(tmp_path):
    from PIL import Image

    for split, label, number in [(s, c, i) for s in ("train", "val") for c in "abcd" for i in range(2)]:
        folder = tmp_path / "imagenet" / split / label
        folder.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((80, 60), 100).convert("RGB").save(folder / f"{number}.JPEG")
    done = train("experiment=fig1ij", "tier=smoke", "epochs=1", "dataset.num_classes=4", "dataset.subset=8",
                 "dataset.image_shape=[3,32,32]", f"results={tmp_path / 'out'}", f"data_dir={tmp_path}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "finished" in done.stdout


def test_imagenet_has_no_laptop_tier_and_says_why():
    done = train("experiment=fig1ij", "tier=laptop")
    assert done.returncode == 2 and "no laptop tier" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_summary_lists_the_layers_and_trains_nothing(tmp_path):
    done = train("model=resnet50", "dataset=cifar10", "model.summary=true", f"results={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split()[-2:] == ["23,520,842", "1,297,829,888"]
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("table", ["table1", "table2", "table3"])
def test_the_tables_in_git_are_those_of_the_code(table):
    base = ROOT / "results" / table
    before = {suffix: base.with_suffix(suffix).read_text() for suffix in (".md", ".tex")}
    done = typed("-m figures", table)
    assert done.returncode == 0, done.stderr
    for suffix, text in before.items():
        after = base.with_suffix(suffix).read_text()
        if table == "table1":  # its last column is rounding
            text, after = ("".join(line.rsplit("|", 2)[0] for line in t.splitlines()) for t in (text, after))
            if suffix == ".tex":
                continue
        assert after == text


def train(*arguments: str):
    return typed("train.py", "wandb.mode=disabled", *arguments)


@pytest.fixture(scope="session")
def real_cifar():
    folder = Path(os.environ.get("POWERSGD_DATA") or ROOT / "downloads")
    for name in ("cifar10", "cifar100"):
        if not (folder / cifar.SOURCES[name].folder).is_dir():
            pytest.skip(f"needs the real {name} in {folder}")
        try:
            with warnings.catch_warnings(action="ignore"):  # a rewritten archive will do
                cifar.fetch(folder, name, verify=False)
        except DataError as error:
            pytest.skip(f"needs the real {name}: {error}")
    return folder
