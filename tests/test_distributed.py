"""Two processes on the CPU (gloo) compute what one does."""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from runs.run import Run
from runs.schema import batch_statistics
from training.distributed import World
from training.loop import Recorder
from training.trainer import Trainer

from .helpers import ROOT, assert_same, clean_environment, make_config, outcome, run_of, typed
from .two_processes import steps

needs_ray = pytest.mark.skipif(
    not importlib.util.find_spec("ray"), reason="needs Ray: pip install -r requirements-ray.txt"
)


def launched(processes: int, *command: str) -> subprocess.CompletedProcess:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [sys.executable, *(torchrun if processes > 1 else []), *command],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
        env=clean_environment(ROOT),
    )  # fmt: skip


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> dict:
    """What two processes compute, with and without BatchNorm; one start for all."""
    folder = tmp_path_factory.mktemp("two")
    done = launched(2, "-m", "tests.two_processes", str(folder))
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "two.pt", weights_only=True)


@pytest.mark.timeout(120)  # starts programs
def test_the_averaged_gradient_is_that_of_one_process(two):
    one, both = steps(norm=False), two[False]
    for a, b in zip(one["first"], both["first"], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    for name, weights in one["weights"].items():
        torch.testing.assert_close(weights, both["weights"][name], rtol=0, atol=1e-6)
    # Loss, correct and images over all processes; the norms are counted by each process and averaged away.
    torch.testing.assert_close(one["sums"][:3], both["sums"][:3], rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(one["sums"][3] / one["sums"][5], both["sums"][3] / both["sums"][5], rtol=1e-5, atol=0)


def test_batchnorm_of_each_process_gives_another_step(two):
    """The reason why the statistics are part of a run's identity."""
    pairs = zip(steps(norm=True)["first"], two[True]["first"], strict=True)
    assert max((a - b).abs().max() for a, b in pairs) > 1e-4


def test_sync_batchnorm_is_refused_on_the_cpu_by_name(two):
    """torch's SyncBatchNorm takes CUDA tensors only, so its equality with one process is not tested here."""
    assert "sync_batchnorm=true needs CUDA" in two["refused"]


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


CNN = ["dataset=synthetic", "dataset.image_shape=[3,8,8]", "dataset.subset=120", "dataset.test_subset=30",
       "batch_size=20", "model=resnet50", "model.blocks=[1,1,1,1]", "model.width=4", "epochs=30",
       "optimizer=powersgdm", "wandb.mode=disabled", "device=cpu", "progress=false"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("launcher", ["local", pytest.param("ray", marks=needs_ray)])
def test_a_sweep_gives_each_run_two_gpus_and_a_rank_that_dies_costs_nothing(launcher, tmp_path):
    """Runs on pairs of four logical GPUs are torchrun's in name and bits; one rank is killed in its training."""
    a_rank_dies(tmp_path, f"launcher={launcher}", "launcher.gpus=4", *["launcher.cpus=4"] * (launcher == "ray"))


def a_rank_dies(tmp_path, *launcher: str) -> None:
    """Two runs on two GPUs each, launched like this; a rank of one is killed."""
    child = sweep_of_two(tmp_path, *launcher)
    victims = []
    while child.poll() is None and not victims:
        time.sleep(0.05)
        if list(tmp_path.glob("sweep/runs/*/metrics.csv")):
            victims = ranks(tmp_path)
    assert victims, child.communicate()
    os.kill(victims[0], signal.SIGKILL)
    same_as_torchrun(tmp_path, child)


def sweep_of_two(tmp_path, *launcher: str) -> subprocess.Popen:
    sweep = [sys.executable, "sweep.py", *CNN, "+grid.paper.powersgdm.lr=[0.01,0.02]", *launcher,
             "launcher.gpus_per_run=2", f"results={tmp_path / 'sweep'}"]  # fmt: skip
    return subprocess.Popen(sweep, cwd=ROOT, env=clean_environment(tmp_path), stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)  # fmt: skip


def same_as_torchrun(tmp_path, sweep: subprocess.Popen) -> None:
    """Its runs ended, and the one with lr 0.02 has the bits of two processes that torchrun starts."""
    out, _ = sweep.communicate(timeout=400)
    assert sweep.returncode == 0 and "Traceback" not in out, out
    runs = [Run(folder) for folder in (tmp_path / "sweep" / "runs").iterdir()]
    assert len(runs) == 2 and all(run.ended() for run in runs)
    assert {run.status()["environment"]["world_size"] for run in runs} == {2}
    alone = launched(2, "train.py", *CNN, "optimizer.lr=0.02", f"results={tmp_path / 'alone'}")
    assert alone.returncode == 0, alone.stderr
    (one,) = (tmp_path / "alone" / "runs").iterdir()
    assert_same(outcome(Run(one)), outcome(Run(tmp_path / "sweep" / "runs" / one.name)))


def ranks(home: Path, gpus: bytes = b"0,1") -> list[int]:
    """Processes that multiprocessing started where these GPUs were visible already, in a sweep with this home."""
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            here = set((process / "environ").read_bytes().split(b"\0"))
            forked = b"--multiprocessing-fork" in (process / "cmdline").read_bytes()
            if forked and {b"CUDA_VISIBLE_DEVICES=" + gpus, b"HOME=" + bytes(home)} <= here:
                pids.append(int(process.name))
    return pids


def test_train_py_refuses_several_gpus_for_its_run_and_names_what_does_that(tmp_path):
    done = typed("train.py", "launcher=local", "launcher.gpus_per_run=2", "device=cpu", f"results={tmp_path}")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "python sweep.py" in done.stderr and "torchrun --nproc-per-node=2 train.py" in done.stderr
    assert not list(tmp_path.glob("runs/*"))


def test_a_checkpoint_in_mid_epoch_has_the_sums_of_all_processes_and_only_the_main_one_takes_them_up(tmp_path):
    class Two(World):
        size, main, barrier = 2, True, staticmethod(lambda: None)

        def sum(self, tensor):
            return tensor.mul_(2)  # as if the other process had the same

    config = make_config(tmp_path)
    trainer = Trainer(config, torch.device("cpu"), images=64)
    trainer.sums.fill_(3.0)
    trainer.world, saved = Two(), []
    writer = SimpleNamespace(save=saved.append, wait=lambda: None)
    Recorder(config, run_of(config), trainer, writer).save()
    assert (saved[0]["sums"] == 6).all() and (trainer.sums == 3).all()
    for main, sums in ((True, 6), (False, 0)):
        again = Trainer(config, torch.device("cpu"), images=64)
        again.world = SimpleNamespace(main=main)
        again.restore(saved[0])
        assert (again.sums == sums).all()
