"""W&B's own sweeps: the agent's command line, its ids, and trials that were trained before."""

import itertools
import json
import os
import subprocess
import sys

import pytest
import wandb
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from runs.interrupt import Interrupted
from training.execute import execute

from .helpers import ROOT, clean_environment, cli, composed, make_config
from .test_tracking import agrees, stopping
from .wandb_stub import KEY, Server

pytestmark = pytest.mark.usefixtures("no_account")
SWEEPS = sorted((ROOT / "configs" / "wandb_sweep").glob("*.yaml"))


def trials(sweep: dict) -> list[dict]:
    """Of each parameter its values, or those between which it lies, in all combinations."""
    values = {
        key: spec.get("values") or [spec.get("value", spec.get("min")), spec.get("value", spec.get("max"))]
        for key, spec in sweep["parameters"].items()
    }
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_agent_s_command_line_is_one_that_train_py_accepts(path):
    sweep = yaml.safe_load(path.read_text())
    assert sweep["program"] == "train.py" and (ROOT / sweep["program"]).exists()
    assert sweep["command"] == [".venv/bin/python", "${program}", "${args_no_hyphens}"]
    for trial in trials(sweep)[:: max(1, len(trials(sweep)) // 12)]:
        args = {key: {"value": value} for key, value in trial.items()}
        line = create_sweep_command_args({"args": args})["args_no_hyphens"]
        config = cli.plain(composed(*line))
        for key, value in trial.items():
            part = config
            for section in key.split("."):
                part = part[section]
            assert (part["name"] if isinstance(part, dict) else part) == value


def test_figure_2_s_sweep_is_figure_2_s_grid():
    asked = {json.dumps(point, sort_keys=True) for point in trials(yaml.safe_load(SWEEPS[0].read_text()))}
    experiment = yaml.safe_load((ROOT / "configs" / "experiment" / "fig2.yaml").read_text())
    grid = [(name, lr) for name, axes in experiment["grid"]["paper"].items() for lr in axes["lr"]]
    expected = {
        json.dumps({"experiment": "fig2", "optimizer": name, "optimizer.lr": lr, "seed": seed}, sort_keys=True)
        for name, lr in grid for seed in experiment["seeds"]
    }  # fmt: skip
    assert asked == expected


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_metric_of_a_sweep_is_one_that_its_runs_log(path):
    from training.view import SECTIONS

    sweep = yaml.safe_load(path.read_text())
    assert sweep["metric"]["name"] in SECTIONS.values()
    assert sweep["metric"]["name"] != "validation/acc" or sweep["parameters"]["dataset.validation"]["value"] > 0


def test_a_trial_has_the_agent_s_id_and_one_trained_before_is_answered_from_its_record(
    tmp_path, fake_mnist, server, monkeypatch
):
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    config = make_config(tmp_path, epochs=3, **{"wandb.mode": "online"})
    for id in ("first", "second"):
        monkeypatch.setenv("WANDB_RUN_ID", id)
        run = execute(config)
        stored = {place[2]: stored for place, stored in server.runs.items()}[id]
        assert agrees(stored.rows, run) and stored.state == "finished"
        wandb.teardown()  # every trial is a process of its own
        assert stored.rows[-1]["test/acc"] == stored.summary["test/last_acc"] == run.rows()[-1]["test_acc"]
    assert len(server.runs) == 2
    times = [row["perf/seconds"] for row in stored.rows]
    assert times == [row["seconds"] for row in run.rows()]  # nothing was trained again


def test_a_trial_of_a_run_that_was_interrupted_elsewhere_has_all_its_epochs(tmp_path, fake_mnist, server, monkeypatch):
    config = make_config(tmp_path, epochs=3, **{"wandb.mode": "online"})
    with pytest.raises(Interrupted):
        execute(config, stopping(2, Interrupted(15)))
    wandb.teardown()
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    monkeypatch.setenv("WANDB_RUN_ID", "trial")
    run = execute(config)
    (trial,) = [stored for place, stored in server.runs.items() if place[2] == "trial"]
    assert agrees(trial.rows, run)


@pytest.mark.slow
def test_the_agent_itself_trains_a_trial_and_is_answered_for_its_double(tmp_path):
    arguments = {"dataset": "synthetic", "model.depth": 3, "model.width": 8, "epochs": 2, "device": "cpu",
                 "dataset.subset": 200, "results": str(tmp_path / "results"), "optimizer.lr": 0.05}  # fmt: skip
    sweep = yaml.safe_load(SWEEPS[0].read_text()) | {"command": [sys.executable, "${program}", "${args_no_hyphens}"]}
    with Server() as server:
        server.sweep, server.trials = yaml.safe_dump(sweep), [("one", arguments), ("two", arguments)]
        account = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_DIR": str(tmp_path)}
        command = [sys.executable, "-m", "wandb", "agent", "--count", "2", "somebody/powersgd/abcd1234"]
        subprocess.run(command, cwd=ROOT, env=clean_environment(tmp_path, **account), timeout=900, check=True)
        sent = {place[2]: stored for place, stored in server.runs.items()}
        assert set(sent) == {"one", "two"}
        one, two = ([{k: v for k, v in row.items() if k != "perf/memory_gb"} for row in sent[id].rows] for id in sent)
        assert one == two  # down to the seconds of training
        assert [row["epoch"] for row in sent["two"].rows] == [1, 2]
        assert sent["one"].config["optimizer.lr"]["value"] == sent["one"].config["lr"]["value"] == 0.05
    assert len(os.listdir(tmp_path / "results" / "runs")) == 1
