"""Two processes on the CPU (gloo) compute what one does."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from runs.run import Run
from runs.schema import batch_statistics

from .helpers import ROOT, assert_same, clean_environment, outcome

STEP = """
import sys, torch
from torch import nn
from training import trainer as module
from runs import schema
from training.distributed import World

class Small(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.head = nn.Linear(4, 10)
    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))

def main(norm, sync, out):
    # A function, so that the trainer, which holds the process group, is gone before the interpreter ends.
    module.build_model = lambda config: Small(norm)
    world = World.from_environment()
    dataset = schema.Dataset(name="synthetic", num_classes=10, image_shape=[3, 8, 8], mean=[0.5] * 3, std=[0.25] * 3,
                             augment="none")
    config = schema.Config(
        dataset=dataset, model=schema.MLP(name="mlp", depth=2, width=4, init="torch"),
        optimizer=schema.SGD(name="sgd", lr=0.1, momentum=0.9, weight_decay=0.0),
        schedule=schema.Constant(name="constant"), epochs=1, batch_size=10, seed=0, sync_batchnorm=sync)
    torch.set_num_threads(1)
    device = torch.device("cpu")
    with world.connected(device):
        trainer = module.Trainer(config, device, images=25, world=world)
        generator = torch.Generator().manual_seed(1)
        for size in (10, 10, 5):  # the last batch does not divide by two
            x, y = torch.randn(size, 3, 8, 8, generator=generator), torch.randint(10, (size,), generator=generator)
            share = slice(size * world.rank // world.size, size * (world.rank + 1) // world.size)
            trainer.train_step(x[share], y[share])
            if size == 10 and trainer.step == 1:
                first = [p.grad.clone() for p in trainer.model.parameters()]
        sums = world.sum(trainer.sums)
        if world.main:
            torch.save({"first": first, "weights": trainer.model.state_dict(), "sums": sums}, out)

main(sys.argv[1] == "norm", sys.argv[2] == "sync", sys.argv[3])
"""


def launched(processes: int, *command: str) -> subprocess.CompletedProcess:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [sys.executable, *(torchrun if processes > 1 else []), *command],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
        env=clean_environment(ROOT),
    )  # fmt: skip


def stepped(tmp_path, processes: int, norm: str, sync: str) -> dict:
    script, out = tmp_path / "step.py", tmp_path / f"{processes}.pt"
    script.write_text(STEP)
    done = launched(processes, str(script), norm, sync, str(out))
    assert done.returncode == 0, done.stderr
    return torch.load(out, weights_only=True)


@pytest.mark.timeout(120)  # starts programs
def test_the_averaged_gradient_is_that_of_one_process(tmp_path):
    one, two = (stepped(tmp_path, n, "plain", "alone") for n in (1, 2))
    for a, b in zip(one["first"], two["first"], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    for name, weights in one["weights"].items():
        torch.testing.assert_close(weights, two["weights"][name], rtol=0, atol=1e-6)
    # Loss, correct and images over all processes; the norms are counted by each process and averaged away.
    torch.testing.assert_close(one["sums"][:3], two["sums"][:3], rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(one["sums"][3] / one["sums"][5], two["sums"][3] / two["sums"][5], rtol=1e-5, atol=0)


@pytest.mark.timeout(120)  # starts programs
def test_batchnorm_of_each_process_gives_another_step(tmp_path):
    """The reason why the statistics are part of a run's identity."""
    one, two = (stepped(tmp_path, n, "norm", "alone") for n in (1, 2))
    assert max((a - b).abs().max() for a, b in zip(one["first"], two["first"], strict=True)) > 1e-4


def test_sync_batchnorm_is_refused_on_the_cpu_by_name(tmp_path):
    """torch's SyncBatchNorm takes CUDA tensors only, so its equality with one process is not tested here."""
    script = tmp_path / "step.py"
    script.write_text(STEP)
    done = launched(2, str(script), "norm", "sync", str(tmp_path / "out.pt"))
    assert done.returncode != 0 and "sync_batchnorm=true needs CUDA" in done.stderr


@pytest.mark.timeout(120)  # starts programs
def test_a_run_on_two_processes_is_recorded_once_and_learns_the_same(tmp_path, real_mnist):
    def trained(processes):
        results = tmp_path / str(processes)
        done = launched(processes, "train.py", "tier=smoke", f"results={results}", f"data_dir={real_mnist}",
                        "wandb.mode=disabled")  # fmt: skip
        assert done.returncode == 0, done.stderr
        (folder,) = (results / "runs").iterdir()
        return Run(folder), done.stdout

    (one, _), (two, printed) = trained(1), trained(2)
    assert one.name == two.name and printed.count("finished") == 1
    assert two.status()["environment"]["world_size"] == 2
    for a, b in zip(one.rows(), two.rows(), strict=True):
        for key in ("train_loss", "train_acc", "test_loss", "test_acc", "grad_norm1", "dead_units_3"):
            assert a[key] == pytest.approx(b[key], rel=1e-3, abs=1e-6), key


@pytest.mark.slow
def test_a_killed_run_on_two_processes_resumes_to_the_bits_of_an_unbroken_one(tmp_path, real_mnist):
    def command(results):
        return ["train.py", "tier=smoke", "dataset.subset=4000", "epochs=6", f"results={results}",
                f"data_dir={real_mnist}", "wandb.mode=disabled", "checkpoint_seconds=0"]  # fmt: skip

    assert launched(2, *command(tmp_path / "whole")).returncode == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    child = subprocess.Popen([*torchrun, *command(tmp_path / "cut")], cwd=ROOT, env=clean_environment(ROOT))
    while child.poll() is None and not list(tmp_path.glob("cut/runs/*/metrics.csv")):
        time.sleep(0.05)
    for process in Path("/proc").glob("[0-9]*"):  # torchrun's workers are in sessions of their own
        with contextlib.suppress(OSError):
            if str(tmp_path / "cut").encode() in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
    child.wait()
    assert not Run(next((tmp_path / "cut" / "runs").iterdir())).ended()
    assert launched(2, *command(tmp_path / "cut")).returncode == 0
    ((whole,), (cut,)) = (list((tmp_path / name / "runs").iterdir()) for name in ("whole", "cut"))
    assert_same(outcome(Run(whole)), outcome(Run(cut)))


def test_what_batchnorm_sees_is_part_of_the_identity():
    config = {"accumulate": 1, "sync_batchnorm": False, "batch_size": 128, "model": {"name": "resnet50"}}
    assert batch_statistics(config, 1) is None
    assert batch_statistics(config, 2) == 64
    assert batch_statistics(config | {"sync_batchnorm": True}, 2) is None
    assert batch_statistics(config | {"accumulate": 4}, 2) == 16
    assert batch_statistics(config | {"model": {"name": "mlp"}}, 2) is None
