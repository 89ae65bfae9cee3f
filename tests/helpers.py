"""What the tests share: small configs, a made-up MNIST, programs run in this process, and one in its own."""

import argparse
import contextlib
import copy
import functools
import hashlib
import io
import json
import os
import runpy
import struct
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from data import mnist
from runs import cli, interrupt, schema
from runs.run import Run
from sweeps import plan
from training import checkpoint
from training.execute import execute

ROOT = Path(__file__).resolve().parent.parent
TIMES = {"seconds", "images_per_second"}  # the only columns that may differ between equal runs
TRAIN_IMAGES, TEST_IMAGES = 300, 100

OPTIMIZERS = ("sgd", "sgdm", "adagrad", "rmsprop", "adam", "powersgd", "powersgdm")

cli.register()


def composed(*overrides: str) -> DictConfig:
    """What `python train.py OVERRIDES` is given by Hydra."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", list(overrides))


def plan_of(*given: str, seeds: Iterable[int] = ()) -> list[plan.Job]:
    """The runs that `python sweep.py GIVEN` asks for; with these seeds, too."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = compose("train", list(given), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        experiment = plan.Experiment(config, list(given))
        experiment.base["seeds"] = sorted({*experiment.base["seeds"], *seeds})
        return experiment.plan().jobs


def typed(program: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run `python PROGRAM ARGUMENTS` in this process, another imports torch first; returns what subprocess.run would.

    program: a script of the project, or `-m` with a module. What a process of its own would forget is restored.
    """
    GlobalHydra.instance().clear()
    plan.compose.cache_clear()
    out, errors, status = io.StringIO(), io.StringIO(), 0
    script, _, module = program.partition("-m ")
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
        mock.patch.dict(os.environ),
        mock.patch.object(argparse.ArgumentParser, "error", argparse.ArgumentParser.error),
        mock.patch.object(sys, "argv", [str(ROOT / script), *arguments]),
    ):
        try:
            if module:
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as left:
            status = left.code or 0
        finally:
            GlobalHydra.instance().clear()
    return subprocess.CompletedProcess([program, *arguments], status, out.getvalue(), errors.getvalue())


@functools.cache
def _defaults(optimizer: str) -> schema.Config:
    return cli.typed(composed(f"optimizer={optimizer}"))


def make_config(folder: Path, optimizer: str = "powersgdm", **changes) -> schema.Config:
    """A run of seconds in `folder`: 2 epochs of a small MLP on the data in folder/mnist, W&B disabled.

    changes: settings by their dotted names, `**{"optimizer.lr": 1.0}`.
    """
    small = {"epochs": 2, "batch_size": 32, "model.depth": 3, "model.width": 16, "device": "cpu"}
    results = folder / "results"
    places = {"results": str(results), "runs": str(results / "runs"), "data_dir": str(folder / "mnist")}
    config = copy.deepcopy(_defaults(optimizer))
    for key, value in (small | places | {"wandb.mode": "disabled", "progress": False} | changes).items():
        *parts, last = key.split(".")
        part = functools.reduce(getattr, parts, config)
        assert hasattr(part, last), key
        setattr(part, last, value)
    return config


def run_of(config: schema.Config) -> Run:
    return Run.of(asdict(config))


def write_fake_mnist(folder: Path, blank: bool = False) -> dict[str, str]:
    """A few hundred made-up images in MNIST's four files below `folder`; returns their MD5s.

    Each class has its own random picture, so they can be learned; noise makes every image different.
    blank: all pixels 0, so that the first layer's gradient is exactly 0.
    """
    random = np.random.default_rng(0)
    pictures = random.integers(0, 128, (10, 28, 28))
    raw = Path(folder) / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    sums = {}
    for prefix, n in (("train", TRAIN_IMAGES), ("t10k", TEST_IMAGES)):
        labels = random.permutation(np.arange(n) % 10)
        images = (pictures[labels] + random.integers(0, 128, (n, 28, 28))) * (not blank)
        contents = {
            f"{prefix}-images-idx3-ubyte": struct.pack(">4i", 2051, n, 28, 28) + images.astype(np.uint8).tobytes(),
            f"{prefix}-labels-idx1-ubyte": struct.pack(">2i", 2049, n) + labels.astype(np.uint8).tobytes(),
        }
        for name, content in contents.items():
            (raw / name).write_bytes(content)
            sums[name] = hashlib.md5(content).hexdigest()
    return sums


def clean_environment(home: Path, **changes) -> dict[str, str]:
    """For a child process: nothing of this machine's W&B account, one thread, our packages found anywhere."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "POWERSGD_", "NETRC"))}
    return kept | {"HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | changes


def program(folder: Path, lockstep: bool = False, before: str = "", **changes) -> list[str]:
    """The command that trains make_config(folder, **changes) on made-up data.

    It prints a line an epoch; with lockstep it waits after each for a line on stdin. `before` is code to run first.
    """
    code = f"{before}\nfrom tests.helpers import main\nmain({str(folder)!r}, {lockstep}, {json.dumps(changes)!r})"
    return [sys.executable, "-c", code]


def start(folder: Path, lockstep: bool = False, before: str = "", environment: dict | None = None, **changes):
    """Start that program with pipes for its input and output; returns its Popen."""
    return subprocess.Popen(
        program(folder, lockstep, before, **changes),
        cwd=ROOT,
        env=clean_environment(folder, **(environment or {})),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen, seconds: float = 120) -> None:
    """Let a started process run to its end, and demand that it ends well."""
    _, errors = process.communicate("\n" * 100, timeout=seconds)
    assert process.returncode == 0, errors


def main(folder: str, lockstep: bool, changes: str) -> None:
    config = make_config(Path(folder), **json.loads(changes))
    mnist.FILES |= write_fake_mnist(Path(config.data_dir))

    def show(row: dict) -> None:
        print(f"epoch {row['epoch']}", flush=True)
        if lockstep:
            sys.stdin.readline()

    try:
        execute(config, show)
    except interrupt.Interrupted as stop:
        sys.exit(128 + stop.signal)


def outcome(run: Run) -> dict:
    """All that an interruption must not change: metrics, status, and the whole state but its times."""
    status, state = run.status(), checkpoint.load(run)
    state["history"] = _timeless(state["history"])
    del state["seconds"]
    return {
        "rows": _timeless(run.rows()),
        "status": {key: status[key] for key in ("state", "reason", "epoch", "epochs")},
        "state": state,
    }


def assert_same(one, other, where: str = "outcome") -> None:
    """Equal bit for bit, all the way down."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}[{key!r}]")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{index}]")
    elif isinstance(one, torch.Tensor):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), where
        assert one.numpy().tobytes() == other.numpy().tobytes(), where
    else:
        assert repr(one) == repr(other), where  # nan equals nan, 0.0 does not equal -0.0


def _timeless(rows: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]
