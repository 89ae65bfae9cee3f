"""Forty runs of two experiments on eight logical GPUs: placed, killed, finished with the same bits. Slow."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from runs.run import Run

from .helpers import ROOT, TIMES, clean_environment
from .test_distributed import needs_ray
from .test_launch import in_training, owner, runs, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ARGUMENTS = [
    "experiments=[fig2,fig2_caption]", "tier=smoke", "seeds=[0,1,2,3]", "dataset.subset=256",
    "dataset.test_subset=256", "wandb.mode=disabled", "device=cpu",
]  # fmt: skip
EPOCHS = 40
LEAST = 80  # percent of the GPUs' time; about 90 on two busy cores, docs/measurements.md


# sweep.py in a process that leaves the places and times of its runs in the folder of the results.
KEEPING = """
import json, pathlib, runpy, sys
from sweeps.launch import Queue
end = Queue.__exit__
def keep(queue, *rest):
    end(queue, *rest)
    spans = [(outcome.place, outcome.began, outcome.ended) for _, outcome in queue.history]
    results = next(one.partition("=")[2] for one in sys.argv if one.startswith("results="))
    pathlib.Path(results, "history.json").write_text(json.dumps(spans))
Queue.__exit__ = keep
sys.argv[0] = "sweep.py"
runpy.run_path("sweep.py", run_name="__main__")
"""


def begin(folder: Path, data: Path, *arguments: str, program: str | None = None) -> subprocess.Popen:
    run = ["sweep.py"] if program is None else ["-c", program]
    command = [sys.executable, *run, *ARGUMENTS, f"results={folder}", f"data_dir={data}", *arguments]
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


def ended(sweep: subprocess.Popen) -> None:
    assert sweep.poll() is None, sweep.communicate()[0]


def timeless(run: Run) -> list[dict]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in run.rows()]


def test_local_workers_share_eight_gpus_and_a_killed_one_costs_nothing(tmp_path, real_mnist):
    sweep = begin(tmp_path, real_mnist, "launcher=local", "launcher.gpus=8", f"epochs={EPOCHS}")
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
    assert all(run.ended() for run in found) and len(found) == 40 and 1 < at_once <= 8
    assert int(use) >= LEAST
    same_as_here(tmp_path, real_mnist, f"epochs={EPOCHS}")


def same_as_here(folder: Path, data: Path, *arguments: str) -> None:
    """The runs of figure 2 with seed 0 have the metrics of runs one after the other in one process."""
    here = folder / "here"
    finished(begin(folder, data, *arguments, "experiments=[fig2]", "seeds=[0]", "launcher=here", f"runs={here}"))
    for run in (Run(path) for path in here.iterdir()):
        assert timeless(run) == timeless(Run(folder / "runs" / run.name))


class Span(NamedTuple):
    """Where a run was trained, and when (seconds since 1970)."""

    place: str
    began: float
    ended: float


def at_once(spans: list[Span]) -> int:
    return max(sum(one.began <= span.began < one.ended for one in spans) for span in spans)


def in_use(spans: list[Span], slots: int, since: float) -> float:
    """The fraction of so many GPUs' time that runs took, from then to the last one's end."""
    end = max(span.ended for span in spans)
    return sum(max(0.0, span.ended - max(span.began, since)) for span in spans) / (end - since) / slots


# Three tasks of an engine for one GPU; instead of training, each says which process it is in.
TASKS = """
import os
from types import SimpleNamespace as Some
from sweeps import worker
from sweeps.on_ray import OnRay
from sweeps.place import Place
worker.train_job = lambda config: os.getpid()
engine = OnRay(Place("NVIDIA H100", 1), {"address": None, "gpus": 1, "cpus": 1})
config = {"threads": 1, "dataset": {"folder": ""}, "launcher": {"gpus_per_run": 1}}
for number in range(3):
    engine.start(Some(config=lambda *place: config, share=1, job=Some(run=Some(name=str(number)))))
pids = []
while len(pids) < 3:
    pids += [pid for _, pid in engine.ended(1)]
engine.close()
print(len(set(pids)), "processes")
"""


@needs_ray
def test_each_run_that_ray_gives_a_gpu_has_a_process_of_its_own(tmp_path):
    """Torch stays on the GPU that it saw first, so that a second run in its process would not be on its own."""
    environment = clean_environment(tmp_path)
    done = subprocess.run([sys.executable, "-c", TASKS], env=environment, capture_output=True, text=True, timeout=200)
    assert "3 processes" in done.stdout, done.stderr


@needs_ray
def test_ray_places_forty_runs_on_eight_gpus_of_two_nodes_one_of_which_is_lost(tmp_path, real_mnist, monkeypatch):
    """A worker is killed, then a node; another node comes. Each run has its own GPU, and no GPU waits for a round."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_worker_niceness", "0")  # else its workers have the lowest priority and never finish
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 4})
    try:
        lost = cluster.add_node(num_cpus=4, num_gpus=4)
        where = [f"launcher.address={cluster.address}", "launcher.gpus=8"]
        sweep = begin(tmp_path, real_mnist, "launcher=ray", *where, f"epochs={EPOCHS}", program=KEEPING)
        victim = wait_for(lambda: in_training(tmp_path, 1) or ended(sweep), 300)
        if pid := owner(victim):
            os.kill(pid, signal.SIGKILL)
        cluster.remove_node(lost, allow_graceful=False)
        cluster.add_node(num_cpus=4, num_gpus=4)
        since = time.time()
        finished(sweep)
    finally:
        cluster.shutdown()
    found = [Run(folder) for folder in (tmp_path / "runs").iterdir()]
    assert len(found) == 40 and all(run.ended() for run in found)
    spans = [Span(*span) for span in json.loads((tmp_path / "history.json").read_text())]
    use = in_use(spans, 8, since)
    print(f"{len(spans)} spans, {at_once(spans)} at once, {use:.0%} of the time in use since the new node")
    assert at_once(spans) == 8
    for place in {span.place for span in spans}:  # both nodes are on this host, and number their GPUs from 0 to 3
        assert "GPU" in place and at_once([span for span in spans if span.place == place]) <= 2
    assert 100 * use >= LEAST
    same_as_here(tmp_path, real_mnist, f"epochs={EPOCHS}")
