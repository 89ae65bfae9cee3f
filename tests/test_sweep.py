"""sweep.py: plans, what they train, and what a failure does."""

import json
import subprocess
import sys

import pytest

from runs.run import Run

from .helpers import ROOT, plan_of, typed


def sweep(*arguments):
    """From another folder: workers find our packages wherever the command was typed."""
    command = [sys.executable, str(ROOT / "sweep.py"), *arguments]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=120)


def planned(results, tier="smoke"):
    return json.loads((results / tier / "plan-fig2.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory, real_mnist):
    results = tmp_path_factory.mktemp("results")
    done = sweep("experiment=fig2", "tier=smoke", f"results={results}", f"data_dir={real_mnist}", "launcher=local")
    assert done.returncode == 0, done.stderr
    return results


def test_figure_2_asks_for_four_settings_and_five_seeds(tmp_path):
    """The paper tier: 20 epochs, batch 128, SGD and PowerSGD at lr 0.1 and 0.01."""
    configs = [job.config for job in plan_of("experiment=fig2", f"results={tmp_path}")]
    settings = {(c["optimizer"]["name"], c["optimizer"]["lr"], c["optimizer"].get("gamma")) for c in configs}
    assert settings == {("sgd", 0.1, None), ("sgd", 0.01, None), ("powersgd", 0.1, 0.4), ("powersgd", 0.01, 0.4)}
    assert len(configs) == 20 and {c["seed"] for c in configs} == {0, 1, 2, 3, 4}
    assert {(c["epochs"], c["batch_size"], c["model"]["depth"], c["dataset"]["subset"]) for c in configs} == {
        (20, 128, 13, None)
    }


def test_a_sweep_trains_every_run_of_its_plan_once(trained):
    plan = planned(trained)
    assert len(plan["runs"]) == 8 and len({entry["folder"] for entry in plan["runs"]}) == 8
    assert all(Run(entry["folder"]).ended() for entry in plan["runs"])


@pytest.mark.slow
def test_worker_processes_give_the_bits_of_this_process(trained, tmp_path, real_mnist):
    done = sweep("experiment=fig2", "tier=smoke", f"results={tmp_path}", f"data_dir={real_mnist}", "launcher=here",
                 "seeds=[0]")  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = [Run(entry["folder"]) for entry in planned(tmp_path, "custom")["runs"]]
    assert len(runs) == 4
    for run in runs:
        twin = Run(trained / "runs" / run.name)
        same = [[row | {"seconds": 0, "images_per_second": 0} for row in r.rows()] for r in (run, twin)]
        assert same[0] == same[1]


def test_a_sweep_that_is_done_trains_nothing(trained, real_mnist):
    before = {path: path.stat().st_mtime_ns for path in trained.glob("runs/*/metrics.csv")}
    done = typed("sweep.py", "experiment=fig2", "tier=smoke", f"results={trained}", f"data_dir={real_mnist}")
    assert "8 runs, 8 done" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in trained.glob("runs/*/metrics.csv")} == before


def test_one_crash_is_reported_and_the_rest_goes_on(tmp_path, real_mnist):
    arguments = ["sweep.py", "experiment=fig2", "tier=smoke", f"results={tmp_path}", f"data_dir={real_mnist}",
                 "seeds=[0]", "epochs=1", "wandb.mode=disabled"]  # fmt: skip
    typed(*arguments)
    victim = Run(planned(tmp_path, "custom")["runs"][0]["folder"])
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (victim.folder / name).write_bytes(b"torn")
    (victim.folder / "status.json").unlink()
    done = typed(*arguments)
    assert done.returncode == 1
    assert victim.name in done.stderr and "damaged" in done.stderr
    assert "3 of 4 runs finished" in done.stdout


def test_changed_settings_never_pass_for_the_tier(tmp_path, real_mnist):
    done = typed("sweep.py", "experiment=fig2", "tier=smoke", f"results={tmp_path}", f"data_dir={real_mnist}",
                 "epochs=1", "seeds=[0]", "dataset.subset=128", "wandb.mode=disabled")  # fmt: skip
    assert done.returncode == 0
    assert not (tmp_path / "smoke").exists()
    assert planned(tmp_path, "custom")["changes"] == ["epochs=1", "seeds=[0]", "dataset.subset=128"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tier=smoke"], "nothing to sweep"),
        (["experiment=null"], "configs/experiment/"),
        (["experiment=fig2", "+grid.paper.sgd.gamma=[1]"], "unknown setting optimizer.gamma"),
        (["experiment=fig2", "grid.paper.sgd.lr=[-1]"], "lr=-1"),
        (["experiment=fig2", "+grid.sgd.lr=[1]"], "name a tier first"),
    ],
)
def test_a_plan_that_cannot_work_is_one_line(arguments, says, tmp_path):
    done = typed("sweep.py", *arguments, f"results={tmp_path}")
    assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1
