"""The command line: what a user types, right and wrong."""

import subprocess
import sys

import pytest

from .helpers import ROOT, typed

BAD = {
    "optimizer.gama=3": "did you mean gamma?",
    "epochs=abc": "could not be converted to Integer",
    "epochs=0": "epochs=0: must be at least 1",
    "seed=-1": "seed=-1",
    "optimizer.lr=-1": "optimizer.lr=-1.0: must be at least 0",
    "optimizer.lr=nan": "optimizer.lr=nan",
    "optimizer.gamma=2": "optimizer.gamma=2.0: must be in [0, 1]",
    "optimizer.momentum=1": "must be in [0, 1)",
    "model=nonexistent": "Available options in 'model': ",
    "model.depth=1": "model.depth=1",
    "model.init=foo": "must be one of torch, he",
    "experiment=fig99": "fig2",
    "optimizer=null": "configs/optimizer/",
    "+foo=1": "unknown setting foo",
    "seed=1,2": "--multirun",
    "device=nonsense": "device=nonsense",
    "results=/proc/nowhere": "cannot be written",
    "dataset.subset=0": "dataset.subset=0",
    "stop.success=2": "stop.success=2.0",
    "wandb.mode=perhaps": "auto, online, offline, disabled",
    "optimizer.lr=${nothing}": "nothing",
    "--cfg=joob": "invalid choice",
    "rerun=012e34567890": "rerun=012e34567890: no archive",
}


@pytest.mark.parametrize("argument", BAD)
def test_bad_input_is_one_line_and_status_2(argument, tmp_path):
    done = typed("train.py", f"runs={tmp_path}", argument)
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert BAD[argument] in lines[0]
    assert not list(tmp_path.glob("*/checkpoint.pt")), "something was trained all the same"


def test_the_program_leaves_with_that_status_and_line():
    done = subprocess.run([sys.executable, "train.py", "epochs=0"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr == "error: epochs=0: must be at least 1\n"


@pytest.mark.parametrize("argument", ["optimizer.gamma=0.4,2", "optimizer.gama=0.4,0.5", "epochs=1,none"])
def test_bad_input_in_a_multirun_stops_it_before_anything_is_trained(argument, tmp_path):
    done = typed("train.py", "-m", "tier=smoke", f"runs={tmp_path}", argument)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]])
def test_help_and_config_answer_without_importing_torch(arguments):
    code = f"""
import runpy, sys
sys.argv = ['train.py', *{arguments!r}]
try:
    runpy.run_path('train.py', run_name='__main__')
finally:
    sys.stdout.flush()
    print('torch' in sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr.strip().endswith("False"), done.stderr
    assert "gamma" in done.stdout


def test_a_multirun_trains_each_point_and_writes_nothing_where_it_was_typed(tmp_path, real_mnist, monkeypatch):
    place = tmp_path / "elsewhere"
    place.mkdir()
    monkeypatch.chdir(place)
    results = tmp_path / "results"
    done = typed("train.py", "-m", "tier=smoke", "dataset.subset=200", "epochs=1", "optimizer.gamma=0.3,0.5",
                 f"results={results}", f"data_dir={real_mnist}", "wandb.mode=disabled")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(path.name.split("-gamma")[1][:3] for path in (results / "runs").iterdir()) == ["0.3", "0.5"]
    assert not list(place.iterdir())


def test_a_finished_run_is_not_trained_again(tmp_path, real_mnist):
    arguments = ["train.py", "tier=smoke", "dataset.subset=200", f"results={tmp_path}", f"data_dir={real_mnist}",
                 "wandb.mode=disabled"]  # fmt: skip
    first = typed(*arguments)
    (metrics,) = tmp_path.glob("runs/*/metrics.csv")
    before = metrics.stat().st_mtime_ns
    second = typed(*arguments, "device=auto", "threads=2")  # where it runs does not make it another run
    assert second.returncode == 0
    assert first.stdout == second.stdout
    assert metrics.stat().st_mtime_ns == before


def test_a_failing_job_of_a_multirun_leaves_the_others_alone(tmp_path, real_mnist):
    done = typed("train.py", "-m", "tier=smoke", "dataset.subset=200,70000", "epochs=1", f"results={tmp_path}",
                 f"data_dir={real_mnist}", "wandb.mode=disabled")  # fmt: skip
    assert done.returncode == 2
    assert "70000" in done.stderr
    assert len(list(tmp_path.glob("runs/*/metrics.csv"))) == 1
