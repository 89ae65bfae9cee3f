"""The W&B files of a sweep that selects: what each run is for, and which runs are averaged."""

import json
import subprocess
import sys

import pytest

from runs.run import Run

from .helpers import ROOT, clean_environment
from .test_tracking import agrees, logged, records

MADE_UP = [
    "dataset=synthetic", "dataset.subset=64", "model.depth=3", "model.width=8", "batch_size=32", "epochs=2",
    "+grid.paper.sgd.lr=[0.1,0.01]", "+grid.paper.adam.lr=[0.01,0.001]", "protocol.tune=true",
    "protocol.refine=[adam]", "seeds=[0,1]", "device=cpu", "wandb.mode=offline", "launcher=here",
]  # fmt: skip


@pytest.mark.timeout(300)  # a program that trains some ten runs
def test_a_sweep_with_selection_says_of_each_run_what_it_is_for(tmp_path):
    home, results = tmp_path / "home", tmp_path / "results"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, str(ROOT / "sweep.py"), *MADE_UP, f"results={results}"],
        env=clean_environment(home), cwd=ROOT, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "W&B: offline" in done.stdout and "make watch" in done.stdout
    (path,) = results.glob("*/plan-*.json")
    found: dict[str, dict] = {}
    for entry in json.loads(path.read_text())["runs"]:
        run = Run(entry["folder"])
        (about,) = records(run, "run")
        assert agrees(logged(run), run)
        found[run.id] = entry | about
    jobs = {(run["label"], run["stage"], run["job_type"]) for run in found.values()}
    assert {("sgd", "grid", "select"), ("sgd", "report", "report"), ("adam", "refine", "refine")} <= jobs
    assert {stage for _, stage, job in jobs if job == "select"} == {"grid"}
    groups: dict[str, set] = {}
    for run in found.values():
        setting = json.dumps({key: value for key, value in run["config"]["update"].items() if key == "lr"})
        groups.setdefault(run["run_group"], set()).add((run["label"], setting))
        assert {"synthetic", "mlp", run["label"]} <= set(run["tags"])
    assert all(len(settings) == 1 for settings in groups.values())  # one setting a group, whatever its seeds
    curves = {run["config"]["update"]["curve"] for run in found.values()}
    assert len(curves) > len(groups)  # seeds that select and seeds that report are drawn separately
