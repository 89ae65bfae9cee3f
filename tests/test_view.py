"""A run as W&B shows it: names in sections, summaries, config, group, job type and tags."""

import json
from dataclasses import asdict

import pytest

from runs import table
from runs.identity import science
from runs.schema import build
from training import view
from training.trainer import COLUMNS

from .helpers import ROOT, cli, composed

ENVIRONMENT = {"device": "cpu", "processor": "a processor", "threads": 1, "python": "3.11.7", "torch": "2.14.1",
               "commit": "0123456789ab", "compile": "none"}  # fmt: skip
ROW = {"epoch": 2, "lr": 0.1, "train_loss": 0.5, "train_acc": 0.8, "grad_norm1": 3.0, "powered_norm1": None,
       "seconds": 0.7, "images_per_second": 1000 / 0.7, "test_loss": 0.6, "test_acc": 0.75, "dead_units_1": 4,
       "amplification_1": 1.5}  # fmt: skip


def about(*overrides: str, experiments=(), job="single") -> view.About:
    config = cli.plain(composed(*overrides))
    return view.about(science(config), ENVIRONMENT, config["tier"], list(experiments), job)


def test_a_row_has_its_axes_first_its_sections_in_order_and_the_layers_last():
    step, row = view.shown(ROW, batch_size=128)
    assert step == row["step"] == 16  # 2 epochs of 8 batches
    assert row["images_seen"] == 2000
    sections = list(dict.fromkeys(name.split("/")[0] for name in row))
    assert sections == ["epoch", "step", "images_seen", "train", "test", "optim", "perf", "layers"]
    assert row["optim/lr"] == 0.1 and row["layers/dead_units_1"] == 4 and row["layers/amplification_1"] == 1.5
    assert "optim/powered_norm1" not in row  # an empty cell is no entry


def test_every_column_of_metrics_csv_but_those_of_layers_has_a_section():
    families = {"dead_units", "amplification", "grad_norm2"}
    assert set(COLUMNS) - {"epoch"} == set(view.SECTIONS)
    assert all(f"{family}_N" in table.COLUMNS for family in families)


def test_summaries_are_best_and_last_the_best_epoch_and_the_first_within_95_percent_of_the_best():
    accuracies = [0.5, 0.78, 0.8, 0.8, 0.7]
    rows = [ROW | {"epoch": epoch, "test_acc": a, "train_acc": a / 2} for epoch, a in enumerate(accuracies, start=1)]
    found = view.summaries(rows)
    assert (found["test/best_acc"], found["test/last_acc"]) == (0.8, 0.7)
    assert (found["train/best_acc"], found["train/last_acc"]) == (0.4, 0.35)
    assert (found["test/best_epoch"], found["test/epochs_to_95_percent"]) == (3, 2)
    assert view.summaries([]) == {}


def test_the_config_is_what_is_computed_flat_and_nothing_of_how():
    """Of what is operational only the tier, by which views group, is there."""
    config = about("optimizer=powersgd", "optimizer.lr=0.01", "dataset.subset=1000").config
    assert (config["optimizer"], config["lr"], config["gamma"], config["dataset"]) == ("powersgd", 0.01, 0.4, "mnist")
    assert (config["dataset_subset"], config["seed"], config["schedule"]) == (1000, 0, "constant")
    assert (config["parameters"], config["multiply_adds"]) == (927242, 924160)
    assert (config["device"], config["torch"], config["commit"]) == ("cpu", "2.14.1", "0123456789ab")
    assert not [name for name, value in config.items() if isinstance(value, dict) or "." in name]
    operational = {"experiment", "plan", "merge", "grid", "results", "runs", "data_dir", "wandb", "budget", "compile"}
    assert not operational & set(config)


@pytest.mark.parametrize("optimizer", ["sgdm", "adam", "adamw", "normalised_sgd", "powersgdm"])
@pytest.mark.parametrize("rest", [["model=mlp"], ["model=resnet50", "dataset=cifar10", "schedule=step"]])
def test_no_two_settings_share_a_name(optimizer, rest):
    computed = science(cli.plain(composed(f"optimizer={optimizer}", *rest)))
    assert len(view.flat(computed)) == len(computed)


def test_runs_that_differ_in_their_seed_alone_are_one_group():
    one, other, further = about("seed=0"), about("seed=1"), about("optimizer.lr=0.5")
    assert one.group == other.group and one.name != other.name
    assert one.group != further.group
    assert one.group.startswith("mnist-mlp13-powersgd-lr0.01-gamma0.4-") and "seed" not in one.group


def test_the_tags_are_tier_data_set_network_optimizer_and_every_experiment_once():
    found = about("tier=smoke", "optimizer=sgd", experiments=["fig4", "fig2", "fig4"])
    assert found.tags == ["smoke", "mnist", "mlp", "sgd", "fig4", "fig2"]


@pytest.mark.parametrize(
    ("optimizer", "stage", "tuned", "expected"),
    [("sgd", None, False, "single"), ("sgd", "grid", True, "select"), ("sgd", "grid", False, "report"),
     ("adam", "refine", True, "refine"), ("sgd", "report", True, "report"),
     ("sgd", "extend", True, "refine"), ("sgd", "final", True, "select"),
     ("normalised_sgd", "grid", False, "control"), ("normalised_sgd", "report", True, "control"),
     ("normalised_sgd", None, False, "control"), ("normalised_sgd", "grid", True, "select"),
     ("normalised_sgd", "final", True, "select"), ("normalised_sgd", "extend", True, "refine")],
)  # fmt: skip
def test_the_job_type_says_what_the_run_is_for(optimizer, stage, tuned, expected):
    assert view.job_type(cli.plain(composed(f"optimizer={optimizer}")), stage, tuned) == expected


def test_a_run_is_used_by_every_experiment_whose_archive_or_plan_holds_it(tmp_path):
    """Figure 6 is made of runs of figure 5."""
    runs = table.read(ROOT / "results" / "short" / "archive" / "fig6-runs.csv")
    run = runs[0]["run"]
    assert {"fig5", "fig6"} <= set(view.uses(run, ROOT / "results"))
    plan = {"experiment": "mine", "runs": [{"folder": f"/somewhere/name-{run}", "stage": "refine"}]}
    (tmp_path / "smoke").mkdir()
    (tmp_path / "smoke" / "plan-mine.json").write_text(json.dumps(plan))
    assert view.uses(run, tmp_path) == {"mine": "refine"}
    assert view.uses("0" * 12, tmp_path) == {}


def test_what_w_and_b_shows_never_changes_what_a_run_is():
    """All of the section on W&B is operational."""
    plain = cli.plain(composed())
    asked = cli.plain(composed("wandb.group=mine", "wandb.tags=[a]", "wandb.log_every=3", "wandb.artifacts=tables"))
    assert science(plain) == science(asked)
    assert asdict(build(asked))["wandb"]["tags"] == ["a"]
