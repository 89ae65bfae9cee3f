"""Statistics, verdicts and pictures on hand-made records, and figure 2 end to end."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from analysis.claims import entries as entry_claims
from analysis.claims import grids as grid_claims
from analysis.claims import judge as claims
from analysis.claims.judge import judge
from analysis.records import NoRecords, by_seed, collect, read_table
from analysis.statistics import curve_interval, mean_interval, t_interval
from analysis.verdicts import combined, within
from runs import table

ROOT = Path(__file__).resolve().parent.parent


def records(sgd=0.11, caption=0.1, lower=0.989, seeds=5, epochs=3, ratio=100.0):
    rows = []
    for optimizer, lr, gamma, acc in [
        ("sgd", 0.1, None, sgd),
        ("sgd", 0.01, None, 0.11),
        ("powersgd", 0.1, 0.4, caption),
        ("powersgd", 0.01, 0.4, lower),
    ]:
        for seed in range(seeds):
            for epoch in range(1, epochs + 1):
                rows.append({
                    "optimizer": optimizer, "lr": lr, "gamma": gamma, "seed": seed, "epoch": epoch,
                    "train_acc": acc + 0.001 * seed, "test_acc": acc, "train_loss": 1.0, "test_loss": 1.0,
                    "grad_norm1": 0.01, "powered_norm1": None if gamma is None else 0.01 * ratio,
                    "dead_units_1": 3, "run": "x",
                })  # fmt: skip
    return rows


def verdicts(**changes):
    return [verdict.verdict for verdict in judge(records(**changes), "fig2")]


def test_mean_interval_brackets_the_mean_and_is_repeatable():
    mean, low, high = mean_interval([1, 2, 3, 4, 5])
    assert mean == 3 and low < 3 < high
    assert mean_interval([1, 2, 3, 4, 5]) == (mean, low, high)
    assert mean_interval([7.0]) == (7, 7, 7)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_mean_interval_has_the_width_of_theory():
    values = np.random.default_rng(1).normal(size=400)
    _, low, high = mean_interval(values)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)


def test_curves_of_different_length_average_what_is_there():
    summary = curve_interval([[1, 2, 3], [3, 4]])
    assert summary[:, 0].tolist() == [2, 3, 3]


def test_by_seed_orders_by_epoch():
    rows = [{"seed": 1, "epoch": 2, "x": 20}, {"seed": 1, "epoch": 1, "x": 10}, {"seed": 0, "epoch": 1, "x": 5}]
    assert by_seed(rows, "x") == {0: [5], 1: [10, 20]}


def test_the_verdicts_follow_the_records():
    assert verdicts() == ["reproduced", "reproduced", "not reproduced", "reproduced", "reproduced", "reproduced"]
    assert verdicts(sgd=0.5)[0] == "not reproduced"
    assert verdicts(caption=0.987)[2] == "reproduced"
    assert verdicts(lower=0.97)[3] == "not reproduced"
    assert verdicts(lower=0.996)[3] == "reproduced"  # more than the paper's is reached, too
    assert verdicts(ratio=5.0)[4:] == ["not reproduced"] * 2


def test_no_verdict_from_too_few_seeds_or_missing_runs():
    assert set(verdicts(seeds=2)) == {"inconclusive"}
    some = [row for row in records() if row["optimizer"] == "sgd"]
    assert {v.verdict for v in judge(some, "fig2")[2:]} == {"not run"}


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "not reproduced", "inconclusive"], "mixed"),
        (["not reproduced", "inconclusive", "not run"], "not reproduced"),  # all must hold
        (["reproduced", "inconclusive"], "inconclusive"),
        (["reproduced", "not run", "inconclusive"], "not run"),
    ],
)
def test_a_claim_in_parts(parts, verdict):
    assert combined(parts) == verdict


def test_a_run_that_diverged_at_once_leaves_no_interval_but_may_be_clear():
    assert within([math.inf] * 3, [None, 0])[0] == "not reproduced"
    assert within([-math.inf, -1.0, -2.0], [None, 0])[0] == "inconclusive"  # an infinity is never inside
    assert within([math.inf, -1.0, -2.0], [None, 0])[0] == "inconclusive"


def chosen(label, accuracies, losses=(1.0, 0.5), lrs=(0.1, 0.01), stage="report"):
    """Runs of a chosen setting: the test accuracy of both epochs, for each seed."""
    return [
        {"label": label, "stage": stage, "seed": seed, "epoch": epoch + 1, "test_acc": accuracy, "train_acc": accuracy,
         "train_loss": losses[epoch], "lr": lrs[epoch], "run": f"{label}{seed}"}
        for seed, run in enumerate(accuracies) for epoch, accuracy in enumerate(run)
    ]  # fmt: skip


def compared(rows, **changes):
    spec = {"of": "powersgd", "minus": ["sgdm"], "column": "test_acc", "at": "best", "between": [0, None]} | changes
    return entry_claims.difference(spec, rows)


SGDM = chosen("sgdm", [(0.5, 0.70), (0.5, 0.71), (0.5, 0.72)])


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [
        ([(0.6, 0.75), (0.6, 0.77), (0.6, 0.76)], "reproduced"),
        ([(0.6, 0.65), (0.6, 0.67), (0.6, 0.66)], "not reproduced"),
        ([(0.6, 0.75), (0.6, 0.67), (0.6, 0.72)], "inconclusive"),  # the spread exceeds the effect
        ([(0.6, 0.75), (0.6, 0.77)], "inconclusive"),  # too few seeds
        ([], "not run"),
    ],
)
def test_a_difference_is_judged_by_its_interval_over_seeds(accuracies, verdict):
    assert compared(chosen("powersgd", accuracies) + SGDM)[0] == verdict


def test_a_difference_takes_the_value_that_it_names():
    rows = chosen("powersgd", [(0.6, 0.60)] * 3) + chosen("sgdm", [(0.5, 0.70)] * 3, losses=(1.0, 0.4))
    assert compared(rows, at=1)[0] == "reproduced"  # 0.6 against 0.5
    assert compared(rows, at="after_drop", between=[None, 0])[0] == "reproduced"  # 0.6 against 0.7
    overtaken = {"before_drop": [0, None], "after_drop": [None, 0]}
    assert compared(rows, at=overtaken)[0] == "reproduced"
    behind = chosen("powersgd", [(0.4, 0.60)] * 3) + chosen("sgdm", [(0.5, 0.70)] * 3)
    assert compared(behind, at=overtaken)[0] == "mixed"  # who led all along does not overtake
    assert compared(rows, at=[1, 2])[0] == "mixed"
    assert compared(rows, column="train_loss", at="lowest", between=[None, 0])[0] == "not reproduced"
    assert compared(rows, between=[-0.2, 0])[0] == "reproduced"
    assert compared(rows, between=[-0.05, 0])[0] == "not reproduced"
    assert compared(rows, at=9)[0] == "not run"


def test_a_run_that_diverged_has_the_worst_value_and_is_not_left_out():
    rows = chosen("powersgd", [(0.6, 0.75), (0.6, 0.76), (0.6,)]) + SGDM
    verdict, text = compared(rows, at=2)
    assert text.startswith("powersgd - sgdm, test_acc at 2: ")
    assert "over 3 seeds" in text and verdict == "inconclusive"  # +0.05, +0.05, -0.72
    assert compared(rows, column="train_loss", at="last", between=[None, 0])[0] != "reproduced"


def test_the_interval_of_a_verdict_covers_what_it_says():
    draws = np.random.default_rng(0)
    decided = sum(within(draws.normal(size=3), [0, None])[0] != "inconclusive" for _ in range(2000))
    assert decided / 2000 == pytest.approx(0.05, abs=0.015)
    parts = [[within(draws.normal(size=3), [0, None], 6)[0] for _ in range(6)] for _ in range(2000)]
    refuted = sum("not reproduced" in verdicts for verdicts in parts)
    assert refuted / 2000 == pytest.approx(0.025, abs=0.012)  # of six parts one lies outside no oftener than of one
    assert within([-1.0, -1.2, -1.4], [0, None])[0] == "not reproduced"
    assert within([-1.0, -1.2, -1.4], [0, None], 30)[0] == "inconclusive"
    with pytest.raises(ValueError):
        t_interval([1.0])


def test_a_difference_is_against_the_best_of_several_and_leaves_selecting_runs_out():
    rows = chosen("powersgd", [(0.6, 0.75)] * 3) + chosen("sgdm", [(0.5, 0.70)] * 3) + chosen("adam", [(0.5, 0.8)] * 3)
    assert compared(rows, minus=["sgdm", "adam"])[0] == "not reproduced"
    assert compared(rows + chosen("sgdm", [(0.9, 0.9)] * 3, stage="grid"))[0] == "reproduced"


FASTER = {"of": ["powersgd"], "minus": ["adam"], "column": "train_acc", "reach": 0.8, "between": [None, 0]}


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict", "says"),
    [
        ((0.5, 0.9), (0.3, 0.5), "reproduced", "-1.0000"),  # the goal is 0.4: epoch 1 against 2
        ((0.3, 0.9), (0.5, 0.5), "not reproduced", "+1.0000"),
        ((0.1, 0.2), (0.1, 0.5), "not reproduced", "+1.0000"),  # never: one more than the longest run has
        ((0.5, 0.9), (0.5, 0.5), "not reproduced", "+0.0000"),  # not fewer
    ],
)
def test_epochs_to_a_stated_accuracy(ours, theirs, verdict, says):
    rows = chosen("powersgd", [ours] * 3) + chosen("adam", [theirs] * 3)
    assert entry_claims.epochs_to(FASTER, rows)[0] == verdict and says in entry_claims.epochs_to(FASTER, rows)[1]
    assert entry_claims.epochs_to(FASTER, chosen("adam", [theirs] * 3))[0] == "not run"


def tried(label, accuracies, seed):
    """A grid: a setting for each accuracy."""
    rows = chosen(label, [(0.1, accuracy) for accuracy in accuracies], stage="grid")
    return [row | {"setting": str(row["seed"]), "seed": seed} for row in rows]


def test_at_an_equal_budget_many_settings_are_no_advantage():
    spec = {"of": ["powersgd"], "minus": ["adam", "sgdm"], "between": [0, None]}

    def judged(seeds):
        rows = [row for seed in seeds for label, accuracies in
                (("powersgd", (0.9, 0.1, 0.1)), ("adam", (0.5,)), ("sgdm", (0.2,))) for row in
                tried(label, accuracies, seed)]  # fmt: skip
        return entry_claims.equal_budget(spec, rows)

    verdict, text = judged([100, 101, 102])  # best of 1: (0.9 + 0.1 + 0.1) / 3 against 0.5
    assert verdict == "not reproduced" and "best of 1 settings, seeds that selected: -0.1333" in text
    assert judged([100])[0] == "inconclusive"
    assert entry_claims.equal_budget(spec, chosen("powersgd", [(0.5, 0.6)] * 3))[0] == "not run"


def test_a_gain_is_over_the_epochs_that_it_names():
    spec = {"of": "adagrad", "column": "train_acc", "epochs": [1, 2], "between": [None, 0.02]}
    assert entry_claims.gain(spec, chosen("adagrad", [(0.5, 0.51), (0.5, 0.512), (0.5, 0.508)]))[0] == "reproduced"
    assert entry_claims.gain(spec, chosen("adagrad", [(0.5, 0.6), (0.5, 0.61), (0.5, 0.62)]))[0] == "not reproduced"
    assert entry_claims.gain(spec | {"epochs": [1, 3]}, chosen("adagrad", [(0.5, 0.6)] * 3))[0] == "not run"


def test_the_best_cells_leave_sgd_out():
    def cell(optimizer, lr, gamma, accuracies):
        return [{"optimizer": optimizer, "initial_lr": lr, "gamma": gamma, "seed": seed, "test_acc": accuracy}
                for seed, accuracy in enumerate(accuracies)]  # fmt: skip

    spec = {"settings": {"optimizer": "powersgd"}, "than": {"optimizer": "rescaled_sgd"}, "column": "test_acc",
            "best": "max", "between": [0, None]}  # fmt: skip
    ours = cell("powersgd", 0.1, 1.0, (0.9, 0.9, 0.9)) + cell("powersgd", 0.1, 0.5, (0.6, 0.61, 0.62))
    theirs = cell("rescaled_sgd", 0.1, 0.5, (0.7, 0.71, 0.72)) + cell("rescaled_sgd", 1, 0.5, (0.1, 0.1, 0.1))
    assert grid_claims.best_cells(spec, ours + theirs)[0] == "not reproduced"  # 0.61 against 0.71, not 0.9
    assert grid_claims.best_cells(spec, ours)[0] == "not run"
    planned = [{"optimizer": "rescaled_sgd", "initial_lr": 0.01, "gamma": 0.5}]  # it might be the best
    assert grid_claims.best_cells(spec | {"planned": planned}, ours + theirs)[0] == "not run"
    assert grid_claims.best_cells(spec | {"than": {"gamma": 1.0}}, ours)[0] == "not reproduced"  # 0.61 against 0.9


def test_one_run_shows_that_a_network_trains_and_only_all_that_none_does():
    def run(name, gamma, seed, accuracy):
        return {"label": "powersgd", "initial_lr": 0.1, "gamma": gamma, "depth": 13, "seed": seed,
                "train_acc": accuracy, "run": name}  # fmt: skip

    rows = [run("a", 0.5, 0, 0.5), run("b", 0.5, 1, 0.3), run("c", 1.0, 0, 0.2)]
    spec = {"settings": {"depth": 13}, "threshold": 0.9, "expect": "some", "cells": 2}
    none = spec | {"expect": "none"}
    for claim in (spec, none):
        assert claims.trained(claim | {"cells": 3}, rows)[0] == "inconclusive"  # the third might
        assert claims.trained(claim, rows)[0] == "inconclusive"  # two seeds at most
    assert claims.trained(spec | {"below": {"gamma": 0.5}}, rows)[0] == "not run"
    every = [run(f"{gamma}{seed}", gamma, seed, 0.2) for gamma in (0.5, 1.0) for seed in range(3)]
    assert claims.trained(spec, every)[0] == "not reproduced" and claims.trained(none, every)[0] == "reproduced"
    every.append(run("0.52", 0.5, 2, 0.91))  # a later epoch of one run: one seed of one setting
    assert claims.trained(spec, every)[0] == "reproduced" and claims.trained(none, every)[0] == "not reproduced"
    assert "lr 0.1 γ 0.5 (1 of 3)" in claims.trained(none, every)[1]
    every.append(run("n", None, 0, 0.91) | {"label": "normalised_sgd"})  # the same lr and no gamma: another setting
    assert "normalised_sgd lr 0.1" in claims.trained(none, every)[1]


def test_another_optimizer_in_figure_4_is_no_evidence_about_powersgd():
    other = [
        {"label": "adamw", "optimizer": "adamw", "initial_lr": 0.1, "gamma": None, "depth": depth, "seed": 0,
         "epoch": 1, "train_acc": 0.99, "run": str(depth)}
        for depth in (13, 14, 15)
    ]  # fmt: skip
    assert {verdict.verdict for verdict in judge(other, "fig4")} == {"not run"}


def test_every_claim_names_a_test_and_an_experiment_that_exist():
    for name, spec in yaml.safe_load(claims.CLAIMS.read_text()).items():
        assert spec["test"] in claims.TESTS, name
        for experiment in claims._experiments(spec) if spec["experiment"] else []:
            assert (ROOT / "configs" / "experiment" / f"{experiment}.yaml").exists(), name
            entries = yaml.safe_load((ROOT / f"configs/experiment/{experiment}.yaml").read_text())["grid"]["paper"]
            if spec["test"] in entry_claims.TESTS:
                assert {*np.atleast_1d(spec["of"]), *np.atleast_1d(spec.get("minus", []))} <= set(entries), name


def test_tables_survive_a_round_trip(tmp_path):
    rows = records()
    table.write(tmp_path / "t.csv", rows)
    for before, after in zip(rows, read_table(tmp_path / "t.csv"), strict=True):
        assert after == {k: pytest.approx(v, rel=1e-5) if isinstance(v, float) else v for k, v in before.items()}
    with pytest.raises(NoRecords, match="missing"):
        read_table(tmp_path / "absent.csv")


def test_without_a_plan_the_message_says_what_to_run(tmp_path):
    with pytest.raises(NoRecords, match=r"sweep\.py experiment=fig2 tier=paper"):
        collect(tmp_path, "paper", "fig2")


def test_figure_2_is_drawn_end_to_end_and_redraws_to_the_same_bytes(tmp_path, real_mnist):
    def run(*command):
        return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=300)

    done = run("sweep.py", "experiment=fig2", "tier=smoke", f"results={tmp_path}", f"data_dir={real_mnist}")
    assert done.returncode == 0, done.stderr
    drawn = run("-m", "figures.fig2", "--tier", "smoke", "--results", str(tmp_path))
    assert drawn.returncode == 0, drawn.stderr
    for name in ("figure2.svg", "figure2.png", "archive/fig2-epochs.csv", "figure2.md"):
        assert str(tmp_path / "smoke" / name) in drawn.stdout
    wanted = {"run", "lr", "epoch", "train_acc", "test_acc", "train_loss", "test_loss", "grad_norm1", "powered_norm1"}
    assert wanted <= set(read_table(tmp_path / "smoke" / "archive" / "fig2-epochs.csv")[0])
    svg = (tmp_path / "smoke" / "figure2.svg").read_bytes()
    assert b"tier smoke" in svg
    assert run("-m", "figures.fig2", "--tier", "smoke", "--results", str(tmp_path), "--redraw").returncode == 0
    assert (tmp_path / "smoke" / "figure2.svg").read_bytes() == svg


def test_a_figure_without_runs_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "figures.fig2", "--results", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
