"""The tuning protocol of section 4.1 on made-up scores: selection, refinement, and the paper's own example."""

import math

import pytest

from sweeps.plan import _distinct
from sweeps.protocol import Score, choose, neighbours, one_digit, refine, score, spelled


def setting(lr):
    return (("optimizer.lr", lr),)


def test_the_highest_accuracy_wins():
    chosen, reason = choose([Score(setting(0.1), 0.90, 5), Score(setting(0.01), 0.93, 30)], similar=0.001)
    assert chosen.setting == setting(0.01)
    assert "0.9300" in reason and "0.9000" in reason


def test_the_reason_says_what_the_choice_was_among():
    """In the words of the plan and of a figure's caption."""
    best, next_best = (
        Score(setting(0.01), 0.93, 30),
        Score((("optimizer.lr", 0.1), ("optimizer.gamma", 0.5)), 0.9295, 40),
    )
    assert choose([best], similar=0.001)[1] == "highest accuracy, 0.9300"
    assert choose([next_best, best], similar=0)[1] == "highest accuracy, 0.9300; the next has 0.9295"
    assert choose([next_best, best], similar=0.001)[1] == (
        "highest accuracy, 0.9300, and the fastest of 2 similar settings"
    )
    assert choose([best, Score(next_best.setting, 0.931, 40)], similar=0.001)[1] == (
        "similar to the highest accuracy (0.9300 against 0.9310 of lr 0.1, gamma 0.5) and faster (30 epochs against 40)"
    )
    assert choose([Score((), 0.931, 40), best], similar=0.001)[1].count("of the only setting)") == 1


def test_of_similar_settings_the_faster_wins():
    """Section 4.1: "When two settings achieve similar test performance, the setting which converges faster"."""
    slow, fast, far = Score(setting(0.1), 0.941, 30), Score(setting(0.01), 0.940, 12), Score(setting(1.0), 0.939, 1)
    chosen, reason = choose([slow, fast, far], similar=0.001)
    assert chosen is fast  # within 0.1 points; the fastest of all is 0.2 points away
    assert "12 epochs against 30" in reason
    assert choose([slow, fast], similar=0.0005)[0] is slow


def test_of_equal_settings_the_first_of_the_grid_wins():
    one, two, three = (Score(setting(lr), 0.94, 12) for lr in (0.1, 0.01, 1.0))
    for grid in ([one, two, three], [three, two, one], [Score(setting(5.0), 0.93, 1), two, one]):
        best = [score for score in grid if score.accuracy == 0.94]
        assert choose(grid, similar=0.001)[0] is best[0]


def test_a_setting_that_never_learned_is_never_faster():
    flat = score(setting(1.0), [[]], reach=0.95)
    assert flat.accuracy == 0 and flat.epochs == math.inf


def test_a_setting_that_collapses_is_not_faster():
    steady, collapsing = [0.5, 0.8, 0.93, 0.94], [0.2, 0.3, 0.5, 0.94, 0.1]
    scores = [score(setting(0.1), [steady], 0.95), score(setting(1.0), [collapsing], 0.95)]
    assert choose(scores, similar=0.001)[0].setting == setting(0.1)


def test_the_score_is_the_mean_over_seeds_of_the_best_accuracy_and_of_the_arrival():
    found = score(setting(0.1), [[0.5, 0.9, 0.8], [0.79, 0.7, 0.8]], reach=0.85)
    assert found.accuracy == pytest.approx(0.85)
    assert found.epochs == 1.5  # 0.9 >= 0.765 in epoch 2; 0.79 >= 0.68 in epoch 1


def test_a_value_of_exactly_the_share_has_arrived():
    assert score(setting(0.1), [[0.5, 0.95, 1.0]], reach=0.95).epochs == 2
    assert score(setting(0.1), [[0.5, 0.9499, 1.0]], reach=0.95).epochs == 3


def test_the_example_of_the_paper():
    """Section 4.1: with {1e-2, 5e-3, 1e-3, 5e-4, 1e-4} tried and 1e-4 the best, "we would try the lr 2e-4"."""
    assert refine([1e-2, 5e-3, 1e-3, 5e-4, 1e-4], 1e-4) == [2e-4, 2e-5]  # and beyond, by the ratio of the last two


@pytest.mark.parametrize(
    ("tried", "best", "proposed"),
    [
        ([1e-2, 5e-3, 1e-3, 5e-4, 1e-4], 1e-3, [7e-4]),  # 5e-4 is the closer neighbour
        ([1e-2, 5e-3, 1e-3, 5e-4, 1e-4], 1e-2, [7e-3, 2e-2]),
        ([5e-4, 2e-4, 1e-4], 2e-4, [3e-4]),  # between 1e-4 and 2e-4 there is no value of one digit
        ([1e-4, 2e-4, 3e-4], 2e-4, []),
        ([5e-3, 2e-2, 6e-2], 2e-2, [3e-2]),  # 6e-2 is a factor of 3 away and 5e-3 one of 4, but nearer by subtraction
        ([0.01], 0.01, []),  # a grid of one point has no ratio
        ([0.095, 0.1], 0.1, []),  # of one digit, the value beyond is the best itself
    ],
)
def test_refinement(tried, best, proposed):
    assert refine(tried, best) == pytest.approx(proposed)


def test_refinement_ends_when_nothing_improves():
    """Replayed with a smooth score that peaks at 1.7e-4: it stops at the best value of one digit near it."""

    def accuracy(lr):
        return 0.9 - 0.05 * abs(math.log10(lr / 1.7e-4))

    tried, best = [1e-2, 5e-3, 1e-3, 5e-4, 1e-4], None
    for _ in range(20):
        last, best = best, max(tried, key=accuracy)
        if best == last or not (new := refine(tried, best)):
            break
        tried += new
    assert best == 2e-4
    assert len(tried) <= 9


@pytest.mark.parametrize(("value", "rounded"), [(2.236e-4, 2e-4), (7.07e-4, 7e-4), (0.0948, 0.09), (9.7, 10.0)])
def test_one_digit(value, rounded):
    assert one_digit(value) == rounded


def cell(lr, gamma):
    return (("optimizer.lr", lr), ("optimizer.gamma", gamma))


GRID = [cell(lr, gamma) for lr in (0.3, 0.1, 0.03) for gamma in (0.4, 0.6, 0.8)]


@pytest.mark.parametrize(
    ("best", "proposed"),
    [
        (cell(0.1, 0.6), []),
        (cell(0.3, 0.6), [cell(1.0, 0.6)]),
        (cell(0.03, 0.8), [cell(0.01, 0.8), cell(0.03, 1.0)]),
    ],
)
def test_the_best_setting_is_given_the_neighbours_that_it_lacks(best, proposed):
    assert neighbours(GRID, best) == proposed


def test_beyond_the_grid_the_new_best_is_given_all_of_its_neighbours():
    """At lr 1 only one gamma was tried; a corner is not left by one step."""
    assert neighbours([*GRID, cell(1.0, 0.6)], cell(1.0, 0.6)) == [cell(3.0, 0.6), cell(1.0, 0.4), cell(1.0, 0.8)]


def test_gamma_stays_between_0_and_1():
    tried = [*GRID, cell(0.1, 0.2), cell(0.1, 0.0), cell(0.03, 0.0), cell(0.3, 0.0)]
    assert neighbours(tried, cell(0.1, 0.0)) == []


def test_half_decades_go_on_as_half_decades():
    """0.1 * 0.1 / 0.3 is 0.033, and a decade further it would be 0.009."""
    tried = [setting(lr) for lr in (0.1, 0.03)]
    lrs = []
    for _ in range(4):
        (new,) = neighbours(tried, min(tried))
        tried.append(new)
        lrs.append(new[0][1])
    assert lrs == [0.01, 0.003, 0.001, 0.0003]


@pytest.mark.parametrize(
    ("lrs", "further"),
    [
        ((0.952, 0.1), 0.01),  # 0.0105
        ((0.5, 0.1), 0.02),
        ((0.02, 0.1), 0.5),
        ((0.105, 0.1), 0.1),  # 0.095 is nearer to 0.1 than to 0.05: nothing new
    ],
)
def test_a_step_beyond_the_grid_is_near_1_2_3_or_5_times_a_power_of_ten(lrs, further):
    new = neighbours([setting(lr) for lr in lrs], setting(lrs[1]))
    assert [one[0][1] for one in new if one[0][1] not in lrs] == ([further] if further not in lrs else [])


@pytest.mark.parametrize(
    ("gammas", "further"),
    [((0.4, 0.2), [0.0]), ((0.6, 0.8), [1.0]), ((0.2, 0.7), []), ((0.9, 0.4), []), ((0.3, 0.2), [0.1])],
)
def test_a_step_beyond_the_gammas_is_as_wide_as_the_last_and_stays_in_the_range(gammas, further):
    new = neighbours([cell(0.1, gamma) for gamma in gammas], cell(0.1, gammas[1]))
    assert [dict(one)["optimizer.gamma"] for one in new] == further


def test_only_lr_and_gamma_are_extended_and_an_axis_of_one_value_stays():
    def of(lr, decay, gamma):
        return (("optimizer.lr", lr), ("optimizer.weight_decay", decay), ("optimizer.gamma", gamma))

    tried = [of(0.1, decay, gamma) for decay in (1e-4, 5e-4) for gamma in (0.4, 0.6)]
    assert neighbours(tried, tried[-1]) == [of(0.1, 5e-4, 0.8)]


def test_a_setting_may_have_values_that_are_no_numbers():
    betas = _distinct([[0.9, 0.99], [0.9, 0.99], [0.95, 0.98]])
    assert betas == [(0.9, 0.99), (0.95, 0.98)]
    setting = ("optimizer.lr", 0.1), ("optimizer.arguments.betas", betas[0]), ("model.init", "he")
    assert {setting: 1} and spelled(setting) == "lr 0.1, arguments.betas (0.9, 0.99), model.init he"
