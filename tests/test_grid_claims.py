"""Claims about a grid of gamma and lr, on hand-made cells."""

import math

import pytest

from analysis.claims import grids as grid_claims

SPEC = {"settings": {"model": "resnet50"}, "column": "test_acc", "best": "max", "lr": [0.1, 0.01]}


def rows(cells, seeds=3):
    """cells: {(lr, gamma): value}; a worse first epoch, and seeds that differ by a thousandth."""
    return [
        {"model": "resnet50", "initial_lr": lr, "gamma": gamma, "seed": seed, "test_acc": value + 0.001 * seed - first}
        for (lr, gamma), value in cells.items() for seed in range(seeds) for first in (0.05, 0)
    ]  # fmt: skip


CELLS = {(0.1, 0.4): 0.50, (0.01, 0.4): 0.49, (0.1, 0.8): 0.60, (0.01, 0.8): 0.45, (0.1, 1.0): 0.61, (0.01, 1.0): 0.3}


@pytest.mark.parametrize(
    ("between", "verdict"),
    [([0.05, None], "reproduced"), ([0.2, None], "not reproduced"), ([None, 0], "not reproduced")],
)
def test_a_contrast_of_cells_is_judged_by_its_interval(between, verdict):
    spec = SPEC | {"terms": [[1, 0.01, 0.8], [-1, 0.01, 1.0]], "between": between}  # 0.45 - 0.30, no spread
    assert grid_claims.contrast(spec, rows(CELLS))[0] == verdict
    assert grid_claims.contrast(spec, rows(CELLS, seeds=2))[0] == "inconclusive"
    assert grid_claims.contrast(spec | {"terms": [[1, 1.0, 0.8]]}, rows(CELLS))[0] == "not run"


def test_without_loss_compares_each_gamma_at_its_best_lr():
    spec = SPEC | {"gamma": [0.8, 1.0], "loss": 0.02}
    assert grid_claims.without_loss(spec, rows(CELLS))[0] == "reproduced"  # 0.60 and 0.61
    assert grid_claims.without_loss(spec, rows(CELLS | {(0.1, 0.8): 0.591}, seeds=2))[0] == "inconclusive"
    verdict, text = grid_claims.without_loss(spec | {"gamma": [0.4, 1.0]}, rows(CELLS))
    assert verdict == "not reproduced" and "γ 0.4 +0.1100" in text


def test_robust_compares_the_spread_over_learning_rates_and_the_worst():
    spec = SPEC | {"gamma": [0.4, 0.8]}  # the worst 0.49 and 0.45 against 0.30
    assert grid_claims.robust(spec, rows(CELLS))[0] == "reproduced"  # 0.01, 0.15 against 0.31
    assert grid_claims.robust(SPEC | {"gamma": [0.8, 1.0]}, rows(CELLS))[0] == "not reproduced"
    nothing = {(lr, gamma): 0.1 if gamma < 1 else value for (lr, gamma), value in CELLS.items()}
    assert grid_claims.robust(spec, rows(nothing))[0] == "mixed"  # it spreads least, for it learns nothing


def test_what_diverged_is_no_worse_than_guessing():
    losses = {(0.1, 0.4): math.nan, (0.01, 0.4): 2.0, (0.1, 1.0): math.nan, (0.01, 1.0): 0.5}
    spec = SPEC | {"gamma": [0.4, 0.4], "best": "min", "worst": 2.3}
    text = grid_claims.robust(spec, rows(losses))[1]  # 0.35 less 1.85: of two epochs the better loss is 0.05 less
    assert "mean spread -1.5000" in text and "worst +0.0000" in text


def test_wider_counts_the_gammas_that_beat_sgd():
    losses = {(0.1, 0.4): 1.0, (0.1, 0.8): 0.5, (0.1, 1.0): 0.4, (0.01, 0.4): 0.3, (0.01, 0.8): 0.6, (0.01, 1.0): 0.4}
    spec = SPEC | {"best": "min", "worst": 2.3, "margin": 0.02}
    assert grid_claims.wider(spec, rows(losses))[0] == "reproduced"  # none, then one
    assert grid_claims.wider(spec | {"margin": 0.15}, rows(losses))[0] == "not reproduced"  # better by 0.1 alone
    between = losses | {(0.03, 0.4): 0.1, (0.03, 0.8): 0.1, (0.03, 1.0): 0.4}
    assert grid_claims.wider(spec | {"lr": [0.1, 0.03, 0.01]}, rows(between))[0] == "mixed"  # 0, 2, 1
    assert grid_claims.wider(spec | {"lr": [0.01, 0.1]}, rows(losses))[0] == "not reproduced"
    assert grid_claims.wider(spec, rows(losses | {(0.01, 0.4): 0.5}))[0] == "not reproduced"  # SGD is best at both
    assert grid_claims.wider(spec, rows(losses | {(0.01, 0.4): math.nan}))[0] == "not reproduced"


def test_a_default_is_judged_by_losses_as_well():
    losses = {(0.1, 0.8): 0.5, (0.1, 1.0): 0.4, (0.01, 0.8): 0.6, (0.01, 1.0): 0.7}
    spec = SPEC | {"best": "min", "worst": 2.3, "gamma": 0.8}
    assert grid_claims.good_default(spec | {"loss": 0.15}, rows(losses))[0] == "reproduced"  # 0.1 and 0
    assert grid_claims.good_default(spec | {"loss": 0.05}, rows(losses))[0] == "not reproduced"


def test_a_good_default_is_near_the_best_at_three_of_four_learning_rates():
    spec = SPEC | {"gamma": 0.8, "loss": 0.02}
    assert grid_claims.good_default(spec, rows(CELLS))[0] == "not reproduced"  # one of two
    assert grid_claims.good_default(spec | {"loss": 0.05}, rows(CELLS))[0] == "reproduced"


def test_missing_cells_and_few_seeds_give_no_verdict():
    spec = SPEC | {"gamma": 0.8, "loss": 0.05}
    some = {cell: value for cell, value in CELLS.items() if cell != (0.01, 0.4)}
    assert grid_claims.good_default(spec, rows(some))[0] == "not run"
    without = {cell: value for cell, value in CELLS.items() if cell[1] != 0.8}
    assert grid_claims.good_default(spec, rows(without))[0] == "not run"  # the gamma that it speaks of is missing
    only = {cell: value for cell, value in CELLS.items() if cell[1] < 1}
    assert grid_claims.wider(SPEC, rows(only))[0] == "not run"
    more = [{"model": "resnet50", "initial_lr": 0.1, "gamma": 0.6}]  # planned, and it has not ended
    assert grid_claims.good_default(spec | {"planned": more}, rows(CELLS))[0] == "not run"
    assert grid_claims.good_default(spec, [])[0] == "not run"
    assert grid_claims.good_default(spec, rows(CELLS, seeds=1))[0] == "inconclusive"
