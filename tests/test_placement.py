"""Forty runs of two experiments on eight logical GPUs: placed, killed, finished with the same bits. Slow."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runs.run import Run

from .helpers import ROOT, TIMES, clean_environment
from .test_launch import in_training, owner, runs, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ARGUMENTS = [
    "experiments=[fig2,fig2_caption]", "tier=smoke", "seeds=[0,1,2,3,4]", "dataset.subset=256",
    "dataset.test_subset=256", "wandb.mode=disabled", "device=cpu",
]  # fmt: skip


def begin(folder: Path, data: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "sweep.py", *ARGUMENTS, f"results={folder}", f"data_dir={data}", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=clean_environment(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def finished(process: subprocess.Popen) -> str:
    try:
        out, _ = process.communicate(timeout=1000)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, out
    assert "Traceback" not in out, out
    return out


def timeless(run: Run) -> list[dict]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in run.rows()]


def test_local_workers_share_eight_gpus_and_a_killed_one_costs_nothing(tmp_path, real_mnist):
    sweep = begin(tmp_path, real_mnist, "launcher=local", "launcher.gpus=8", "epochs=12")
    victim = wait_for(lambda: in_training(tmp_path, 1), 300)
    at_once = 0
    for _ in range(20):
        at_once = max(at_once, sum(run.status().get("state") == "running" for run in runs(tmp_path)))
        time.sleep(0.2)
    if pid := owner(victim):
        os.kill(pid, signal.SIGKILL)
    out = finished(sweep)
    (use,) = re.findall(r"8 GPUs, in use (\d+)%", out)
    found = [Run(folder) for folder in (tmp_path / "runs").iterdir()]
    print(f"{len(found)} runs, {at_once} at once, {use} % of the time in use")
    assert all(run.ended() for run in found) and len(found) >= 40 and 1 < at_once <= 8
    assert int(use) >= 90
    here = tmp_path / "here"
    chosen = ["experiments=[fig2]", "seeds=[0]", "launcher=here", "epochs=12", f"runs={here}"]
    finished(begin(tmp_path, real_mnist, *chosen))
    for run in (Run(path) for path in here.iterdir()):
        assert timeless(run) == timeless(Run(tmp_path / "runs" / run.name))


@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="needs Ray: pip install -r requirements-ray.txt")
def test_ray_places_runs_on_eight_gpus_of_two_nodes_one_of_which_is_lost(tmp_path, real_mnist, monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_worker_niceness", "0")  # its workers give way to everything else, and would never be done
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 4})
    try:
        lost = cluster.add_node(num_cpus=4, num_gpus=4)
        address = [f"launcher.address={cluster.address}", "launcher.gpus=8"]
        sweep = begin(tmp_path, real_mnist, "launcher=ray", *address, "experiments=[fig2]", "seeds=[0,1,2]", "epochs=4")
        wait_for(lambda: in_training(tmp_path, 1), 300)
        cluster.remove_node(lost, allow_graceful=False)
        finished(sweep)
        found = runs(tmp_path)
        assert len(found) == 12 and all(run.ended() for run in found)
    finally:
        cluster.shutdown()
