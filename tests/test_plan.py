"""Plans: the paper's grids, the rounds of the protocol, what counts as done, what a plan costs."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from runs import archive, table
from runs.run import Run
from sweeps.plan import Job, in_turns

from .helpers import ROOT, assert_same, outcome, typed

LR = [1, 1e-1, 1e-2, 1e-3, 1e-4]
FIGURE_1 = {  # section 4.1
    "sgdm": {"lr": LR},
    "powersgd": {"lr": LR, "gamma": [0.5, 0.6, 0.7, 0.8, 0.9]},
    "powersgdm": {"lr": LR, "gamma": [0.5, 0.6, 0.7, 0.8, 0.9]},
    "adagrad": {"lr": [1e-1, 5e-2, 1e-2, 5e-3, 1e-3]},
    "rmsprop": {"lr": [1e-2, 5e-3, 1e-3, 5e-4, 1e-4]},
    "adam": {"lr": [1e-2, 5e-3, 1e-3, 5e-4, 1e-4]},
}
TENTHS = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
APPENDIX_LR = [1, 0.1, 0.01, 0.001]
MADE_UP = ["dataset=synthetic", "model=mlp", "model.depth=2", "model.width=8", "epochs=2", "dataset.subset=64"]
MADE_UP += ["wandb.mode=disabled", "protocol.tune=true", "seeds=[0,1]"]


def sweep(*arguments):
    return typed("sweep.py", *arguments)


def experiment(name):
    return yaml.load((ROOT / "configs" / "experiment" / f"{name}.yaml").read_text(), Loader=yaml.SafeLoader)


def numbers(grid):
    """YAML reads 1e-1 as a word; Hydra reads it as a number."""
    return {key: [float(value) for value in values] for key, values in grid.items() if isinstance(values, list)}


@pytest.mark.parametrize(
    ("name", "epochs", "milestones", "dataset", "model"),
    [
        ("fig1ab", 160, [60, 120], "cifar10", "resnet50"),
        ("fig1cd", 160, [60, 120], "cifar10", "densenet121"),
        ("fig1ef", 120, [60], "cifar100", "wrn26"),
        ("fig1ij", 120, [30, 60, 90], "imagenet", "resnet50_imagenet"),
    ],
)
def test_figure_1_asks_what_sections_4_1_and_4_2_say(name, epochs, milestones, dataset, model):
    spec = experiment(name)
    assert {label: numbers(grid) for label, grid in spec["grid"]["paper"].items()} == FIGURE_1
    assert (spec["epochs"], spec["batch_size"], spec["schedule"]["milestones"]) == (epochs, 128, milestones)
    chosen = {key.removeprefix("override /"): value for line in spec["defaults"] for key, value in line.items()}
    assert (chosen["dataset"], chosen["model"]) == (dataset, model)
    assert spec["protocol"]["tune"] and len(spec["seeds"]) >= 5


def test_figure_1_gh_has_the_grids_of_section_4_1():
    spec = experiment("fig1gh")
    assert {label: numbers(grid) for label, grid in spec["grid"]["paper"].items()} == FIGURE_1
    assert spec["batch_size"] == 128


def test_figures_4_to_6_ask_what_the_supplement_says():
    appendix = {"lr": APPENDIX_LR, "gamma": TENTHS}
    assert numbers(experiment("fig4")["grid"]["paper"]["powersgd"]) == appendix | {"model.depth": [12, 13, 14, 15]}
    assert experiment("fig4")["epochs"] == 25
    grid = experiment("fig5")["grid"]["paper"]
    for model in ("resnet50", "densenet121"):
        assert numbers(grid[f"{model}-powersgd"]) == appendix
        assert numbers(grid[f"{model}-sgdm"]) == {"lr": APPENDIX_LR}
        assert grid[f"{model}-sgdm"]["optimizer"] == "sgdm"
        assert grid[f"{model}-powersgd"].get("model", "resnet50") == model
    assert numbers(experiment("fig6")["grid"]["paper"]["resnet50-powersgd"]) == appendix


def test_the_controls_of_figure_5_have_its_grid_on_both_networks():
    grid = experiment("fig5_controls")["grid"]["paper"]
    figure5 = experiment("fig5")["grid"]["paper"]
    assert len(grid) == 6
    for label, entry in grid.items():
        model, optimizer = label.split("-")
        assert (entry.get("model", "resnet50"), entry["optimizer"]) == (model, optimizer)
        wanted = numbers(figure5[f"{model}-powersgd"])
        gammas = entry.get("gamma", entry.get("optimizer.arguments.gamma", wanted["gamma"][:-1]))
        assert (entry["lr"], gammas) == (wanted["lr"], wanted["gamma"][:-1])  # gamma 1 is SGD itself


def test_figure_7_compares_the_same_settings_with_and_without_restarts():
    grid = experiment("fig7")["grid"]["paper"]
    for name, plain in (("sgdr", "sgdm"), ("powersgdr", "powersgd")):
        assert grid[name] == {"optimizer": plain, "schedule": "warm_restarts", "settings_of": plain}
        assert numbers(grid[plain]) == FIGURE_1[plain]


def test_the_grids_are_those_of_the_papers_reference():
    settings = yaml.safe_load((ROOT / "results" / "paper_reference.yaml").read_text())["settings"]
    assert {name: grid["lr"] for name, grid in FIGURE_1.items()} == settings["lr"]
    assert FIGURE_1["powersgd"]["gamma"] == settings["gamma"]


def test_momentum_is_0_9_and_adagrad_starts_at_0():
    optimizers = {name: yaml.safe_load((ROOT / f"configs/optimizer/{name}.yaml").read_text()) for name in FIGURE_1}
    assert optimizers["sgdm"]["momentum"] == optimizers["powersgdm"]["momentum"] == 0.9
    assert optimizers["powersgd"]["momentum"] == 0
    assert optimizers["adagrad"]["initial_accumulator_value"] == 0


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A sweep of the whole protocol on made-up data: adam is refined, sgd is not."""
    results = tmp_path_factory.mktemp("tuned")
    grid = "+grid.paper={sgd: {lr: [0.1, 0.01]}, adam: {lr: [0.01, 0.001]}}"
    arguments = [*MADE_UP, grid, f"results={results}"]
    done = sweep(*arguments)
    assert done.returncode == 0, done.stderr
    return results, arguments, done


def plan_of(results):
    return json.loads((results / "custom" / "plan-sweep.json").read_text())["runs"]


def test_the_protocol_is_grid_then_refinement_then_fresh_seeds(tuned):
    results, _, _ = tuned
    runs = plan_of(results)
    stages = {label: [run["stage"] for run in runs if run["label"] == label] for label in ("sgd", "adam")}
    assert stages["sgd"] == ["grid"] * 2 + ["report"] * 2
    assert stages["adam"][:2] == ["grid"] * 2 and "refine" in stages["adam"] and stages["adam"][-2:] == ["report"] * 2
    assert {run["config"]["seed"] for run in runs if run["stage"] != "report"} == {100}
    assert {run["config"]["seed"] for run in runs if run["stage"] == "report"} == {0, 1}
    assert all(Run(run["folder"]).ended() for run in runs)


def test_the_selection_is_written_down_and_follows_from_the_runs(tuned):
    results, _, done = tuned
    rows = table.read(results / "custom" / "selection-sweep.csv")
    for label in ("sgd", "adam"):
        (chosen,) = [row for row in rows if row["label"] == label and row["chosen"] == "yes"]
        assert chosen["reason"] and f"{label}: {chosen['reason']}" in done.stdout
        best = max(row["best_accuracy"] for row in rows if row["label"] == label)
        assert chosen["best_accuracy"] >= best - 0.001 - 1e-6
        runs = [run for run in plan_of(results) if (run["label"], run["stage"]) == (label, "report")]
        reported = {run["config"]["optimizer.lr"] for run in runs}
        assert chosen["setting"] == f"lr {reported.pop():g}" and not reported


def test_asked_again_it_trains_nothing(tuned):
    results, arguments, _ = tuned
    before = {path: path.stat().st_mtime_ns for path in results.glob("runs/*/status.json")}
    done = sweep(*arguments)
    count = len(plan_of(results))
    assert f"{count} runs, {count} done" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in results.glob("runs/*/status.json")} == before


def test_status_and_plan_train_nothing_and_agree_with_the_disk(tuned, tmp_path):
    results, arguments, _ = tuned
    status = sweep(*arguments, "status=true").stdout
    for label in ("sgd", "adam"):
        (line,) = [line for line in status.splitlines() if line.startswith(f"{label} ")]
        count = sum(run["label"] == label for run in plan_of(results))
        assert line.split()[1:3] == [str(count), str(count)]
    planned = sweep(*arguments[:-1], f"results={tmp_path}", "plan=true")
    assert planned.returncode == 0, planned.stderr
    (line,) = [line for line in planned.stdout.splitlines() if line.startswith("sweep")]
    assert line.split()[1:4] == ["4", "0", "4"]  # four of the grid, two fresh seeds of two entries to come
    assert "multiply-adds" in line
    assert not list(tmp_path.glob("runs/*"))


def test_select_on_validation_holds_images_out_for_the_selecting_runs_only(tmp_path):
    arguments = [*MADE_UP, "+grid.paper={sgd: {lr: [0.1, 0.01]}}", f"results={tmp_path}"]
    done = sweep(*arguments, "protocol.select_on=validation")
    assert done.returncode == 0, done.stderr
    for entry in plan_of(tmp_path):
        run = Run(entry["folder"])
        config = yaml.safe_load((run.folder / "config.yaml").read_text())
        images = config["dataset"]["validation"], config["dataset"]["subset"]
        assert images == ((0, 64) if entry["stage"] == "report" else (100, 164))  # a tenth of 1,000, beside the subset
        assert ("validation_acc" in run.rows()[0]) == (entry["stage"] != "report")


def test_a_plan_over_the_budget_is_refused_with_its_size(tmp_path):
    done = sweep("experiment=fig1ef", f"results={tmp_path}")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "hours" in done.stderr and "budget=12" in done.stderr
    assert not list(tmp_path.glob("runs/*"))


def test_the_seeds_that_select_may_not_report(tmp_path):
    done = sweep("experiment=fig1ab", "protocol.seeds=[0]", f"results={tmp_path}", "plan=true")
    assert done.returncode == 2 and "protocol.seeds=0" in done.stderr


def test_a_plan_says_that_several_gpus_for_a_run_are_assumed_to_be_as_many_times_as_fast(tmp_path):
    pytest.importorskip("submitit")
    arguments = [*MADE_UP, "+grid.paper.sgd.lr=[0.1]", "launcher=slurm", "plan=true", f"results={tmp_path}"]
    assert "2 times as fast" in sweep(*arguments, "launcher.gpus_per_run=2").stdout
    assert "times as fast" not in sweep(*arguments).stdout


def test_only_trains_the_named_entries(tmp_path):
    arguments = [*MADE_UP, "protocol.tune=false", "seeds=[0]", f"results={tmp_path}"]
    grid = "+grid.paper={sgd: {lr: [0.1]}, adam: {lr: [0.01]}}"
    done = sweep(*arguments, grid, "only=[sgd]")
    assert done.returncode == 0 and "1 of 2 runs finished" in done.stdout
    done = sweep(*arguments, grid, "only=[nadam]")
    assert done.returncode == 2 and "only=nadam" in done.stderr


def test_the_archive_counts_as_done_when_asked(tuned, tmp_path):
    results, arguments, _ = tuned
    plan = json.loads((results / "custom" / "plan-sweep.json").read_text())
    archive.export(plan, tmp_path / "custom" / "archive")
    here = [*arguments[:-1], f"results={tmp_path}"]
    done = sweep(*here, "archive=true")
    count = len(plan["runs"])
    assert done.returncode == 0 and f"{count} runs, {count} done" in done.stdout
    assert not list(tmp_path.glob("runs/*"))
    assert "4 runs, 0 done" in sweep(*here, "budget=0").stdout  # not asked: they count as missing


def test_only_some_entries_and_the_controls_beside_them(tmp_path):
    here = ("experiment=fig2", "tier=paper", "also=[rescaled_sgd,normalised_sgd]", f"results={tmp_path}")
    text = sweep(*here, "plan=true", "only=[rescaled_sgd,normalised_sgd]").stdout
    assert text.splitlines()[1].split()[:3] == ["fig2", "65", "0"]  # (3 x 3 + 4) settings, 5 seeds
    assert sweep(*here, "plan=true").stdout.splitlines()[1].split()[1] == "85"
    assert (
        "85 runs, 0 done; of normalised_sgd 20 to train" in sweep(*here, "status=true", "only=[normalised_sgd]").stdout
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["+grid.paper.sgd.lr=0.3"], "give a list"),
        (["+grid.paper.sgd.lr=[abc]"], "must be float"),
        (["+grid.paper.sgd.lr=[]"], "grid.sgd.lr=[]: give at least one value"),
        (["+grid.paper.sgd.lr=[0.1]", "seeds=[]"], "at least one seed"),
        (["+grid.paper.sgd.lr=[0.1]", "protocol.seeds=[]"], "at least one seed"),
        (["+grid.paper.sgd.lr=[0.1]", "seeds=[1,1]"], "each once"),
        (["+grid.paper.sgd.lr=[0.1]", "status=true"], "one at a time"),
        (["+grid.paper.adamw={optimizer: adamw, lr: [0.1]}", "optimizer=adamw", "+grid.paper.sgdm.lr=[1]",
          "also=[gone]"], "gone"),
    ],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_one_line(arguments, says, tmp_path):
    done = sweep(*MADE_UP[:-2], *arguments, f"results={tmp_path}", "plan=true")
    assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_looking_changes_nothing(tuned):
    results, arguments, _ = tuned
    before = {path: path.read_bytes() for path in results.rglob("*.*") if path.suffix in (".json", ".csv")}
    grid = next(argument for argument in arguments if argument.startswith("+grid"))
    other = [argument for argument in arguments if argument != grid]
    for look in ("status=true", "plan=true"):
        assert sweep(*other, "+grid.paper={sgd: {lr: [0.1]}}", look).returncode == 0
    assert {path: path.read_bytes() for path in results.rglob("*.*") if path.suffix in (".json", ".csv")} == before


def test_costs_of_one_experiment_leave_those_of_the_others(tmp_path):
    for name in ("fig2", "fig4_small_lr"):
        assert sweep(f"experiment={name}", "plan=true", "archive=true", f"results={tmp_path}").returncode == 0
    assert sweep("experiment=fig2", "plan=true", "archive=true", "epochs=500", f"results={tmp_path}").returncode == 0
    costs = json.loads((tmp_path / "paper" / "costs.json").read_text())["experiments"]
    assert set(costs) == {"fig2", "fig4_small_lr"} and costs["fig2"]["missing"] == 20 and costs["fig2"]["hours"] < 2


def test_either_numerics_are_the_paper_s_tier_and_other_settings_are_not(tmp_path):
    for given, tier in (("numerics=fast", "paper"), ("precision=bf16", "custom")):
        done = sweep("experiment=fig2", given, "plan=true", "archive=true", f"results={tmp_path / tier}")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / tier / "paper" / "costs.json").exists() == (tier == "paper")


def test_merge_brings_runs_in_and_trains_nothing_again(tuned, tmp_path):
    results, arguments, _ = tuned
    here = [*arguments[:-1], f"results={tmp_path}"]
    done = sweep(f"merge={results / 'runs'}", f"results={tmp_path}")
    assert done.returncode == 0 and done.stdout.count("copied") == len(plan_of(results))
    assert "copied" not in sweep(f"merge={results / 'runs'}", f"results={tmp_path}").stdout
    assert f"{len(plan_of(results))} done" in sweep(*here).stdout
    for folder in (results / "runs").iterdir():
        assert (tmp_path / "runs" / folder.name / "metrics.csv").read_bytes() == (folder / "metrics.csv").read_bytes()


def test_merge_refuses_a_run_that_is_not_what_its_name_says(tuned, tmp_path):
    results, _, _ = tuned
    folder = next((results / "runs").iterdir())
    shutil.copytree(folder, tmp_path / "theirs" / folder.name)
    path = tmp_path / "theirs" / folder.name / "config.yaml"
    path.write_text(path.read_text().replace("epochs: 2", "epochs: 3"))
    done = sweep(f"merge={tmp_path / 'theirs'}", f"results={tmp_path}")
    assert "not the one that its name stands for" in done.stdout and not list(tmp_path.glob("runs/*/metrics.csv"))
    path.write_text("[broken")
    broken = sweep(f"merge={tmp_path / 'theirs'}", f"results={tmp_path}")
    assert broken.returncode == 1 and "cannot be read" in broken.stdout
    empty = sweep(f"merge={tmp_path / 'absent'}", f"results={tmp_path}")
    assert empty.returncode == 2 and "no run" in empty.stderr


def test_calibration_replaces_multiply_adds(tmp_path):
    arguments = [*MADE_UP, "+grid.paper={sgd: {lr: [0.1]}}", f"results={tmp_path}"]
    done = sweep(*arguments, "calibrate=true")
    assert done.returncode == 0, done.stderr
    assert "ms an image" in done.stdout and (tmp_path / "calibration.json").exists()
    assert "calibrated" in sweep(*arguments, "plan=true").stdout
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.slow
def test_a_sweep_killed_at_ten_random_moments_ends_as_an_unbroken_one(tmp_path, real_mnist):
    """24 smoke runs, workers included; kill -9, SIGTERM and Ctrl-C in turn."""
    arguments = ["tier=smoke", "seeds=[0,1,2,3]", "+grid.paper={sgd: {lr: [0.1, 0.01]}, "
                 "powersgd: {lr: [0.1, 0.01], gamma: [0.4, 0.8]}}", "epochs=4", "launcher=local",
                 "wandb.mode=disabled", "checkpoint_seconds=0.2", f"data_dir={real_mnist}"]  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    command = [sys.executable, str(ROOT / "sweep.py"), *arguments]
    subprocess.run([*command, f"results={whole}"], check=True, capture_output=True, timeout=600)
    draw = random.Random(0)
    signals = itertools.cycle([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    for _ in range(10):
        process = subprocess.Popen(
            [*command, f"results={broken}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        time.sleep(draw.uniform(3, 9))
        os.killpg(process.pid, next(signals))
        process.wait(timeout=60)
        wait_for_group(process.pid)
    done = subprocess.run([*command, f"results={broken}"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "24 of 24 runs finished" in done.stdout
    names = sorted(path.name for path in (whole / "runs").iterdir())
    assert len(names) == 24 and names == sorted(path.name for path in (broken / "runs").iterdir())
    for name in names:
        assert_same(outcome(Run(broken / "runs" / name)), outcome(Run(whole / "runs" / name)))


def wait_for_group(group: int) -> None:
    """Until no process of the group is left, or a minute."""
    for _ in range(600):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("a process of the killed sweep is left")


def test_a_sweep_soon_has_a_run_of_every_entry_from_the_middle_of_its_grid():
    jobs = [Job(label, "grid", (("optimizer.lr", lr),), {"seed": seed}, [])
            for label, count in (("sgdm", 3), ("powersgd", 9), ("adam", 1))
            for seed in (0, 1) for lr in range(count)]  # fmt: skip
    order = [(job.label, job.setting[0][1], job.config["seed"]) for job in in_turns(jobs)]
    assert order[:5] == [("sgdm", 1, 0), ("powersgd", 4, 0), ("adam", 0, 0), ("sgdm", 0, 0), ("powersgd", 3, 0)]
    assert [place[1:] for place in order if place[0] == "sgdm"] == [(1, 0), (0, 0), (2, 0), (1, 1), (0, 1), (2, 1)]
    assert sorted(order) == sorted((job.label, job.setting[0][1], job.config["seed"]) for job in jobs)
