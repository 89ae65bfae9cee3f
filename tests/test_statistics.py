"""Intervals, verdicts and their power, on hand-made values and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from analysis.simulate import SD, rates, rules, trained, unlike
from analysis.statistics import (
    Best,
    Contrast,
    Count,
    Difference,
    Estimates,
    Largest,
    Least,
    against_best,
    bartlett,
    curve_interval,
    expected_best,
    share_limit,
    t_interval,
)
from analysis.verdicts import combined, decide, judge, more_seeds

ONE_AGAINST_ANOTHER = Contrast({0: 1.0, 1: -1.0})


def test_a_t_interval_is_students():
    mean, low, high = t_interval([1.0, 2.0, 4.0])
    half = 4.302653 * np.std([1, 2, 4], ddof=1) / math.sqrt(3)
    assert (mean, low, high) == pytest.approx((7 / 3, 7 / 3 - half, 7 / 3 + half))
    assert np.isnan(t_interval([1.0])[1:]).all()  # one value says nothing of the spread
    with pytest.raises(ValueError, match="no values"):
        t_interval([])


def test_curves_of_different_length_average_what_is_there():
    summary = curve_interval([[1, 2, 3], [3, 4]])
    assert summary[:, 0].tolist() == [2, 3, 3]
    assert np.isnan(summary[2, 1:]).all() and summary[0, 1] < 1


def test_bartletts_test_is_scipys():
    groups = np.random.default_rng(0).normal(size=(4, 3)) * [[1], [1], [2], [3]]
    variances = groups.var(axis=1, ddof=1)
    assert bartlett(variances, np.full(4, 2.0)) == pytest.approx(stats.bartlett(*groups).pvalue)
    # Rounding makes the statistic of equal variances negative.
    assert bartlett(np.full(7, 0.1), np.full(7, 2.0)) == pytest.approx(1)
    assert bartlett(np.array([0.0, 1.0]), np.array([2.0, 2.0])) == 0  # no spread at all is like no other


def test_alike_settings_share_their_variance_and_its_degrees_of_freedom():
    values = [np.array([-1.0, 0, 1]) + mean for mean in (0, 0, 5, 9)]
    _, low, high = ONE_AGAINST_ANOTHER.interval(Estimates.of(values))
    assert high == pytest.approx(stats.t.ppf(0.975, 8) * math.sqrt(2 / 3)) == -low
    own = Estimates.of(values, [False] * 4)
    assert ONE_AGAINST_ANOTHER.interval(own)[2] == pytest.approx(stats.t.ppf(0.975, 4) * math.sqrt(2 / 3))


def test_settings_that_spread_unlike_keep_their_own_variance():
    wild = [np.array([-30.0, 0, 30]), *(np.array([-1.0, 0, 1]) for _ in range(3))]
    assert not Estimates.of(wild).shared.any()  # Bartlett's test refuses all
    welch = stats.ttest_ind(wild[0], wild[1], equal_var=False).confidence_interval()
    assert ONE_AGAINST_ANOTHER.interval(Estimates.of(wild))[1:] == pytest.approx((welch.low, welch.high))
    wider = [np.array([-3.0, 0, 3]), *(np.array([-1.0, 0, 1]) for _ in range(5))]
    found = Estimates.of(wider)
    assert found.p > 0.05 and found.shared.tolist() == [False, *[True] * 5]  # the F test, this one


def test_values_known_to_a_step_spread_at_least_as_its_rounding_does():
    same = Estimates.of([np.array([4.0, 4, 4]), np.array([3.0, 3, 3])], step=1)
    assert ONE_AGAINST_ANOTHER.interval(same)[1] == pytest.approx(1 - stats.t.ppf(0.975, 4) * math.sqrt(2 / 36))


def test_no_variance_is_less_than_that_of_the_rounding_whatever_the_step():
    same = Estimates.of([np.array([4.0, 4, 4]), np.array([2.0, 2, 2])], step=2)
    assert same.variances.tolist() == pytest.approx([4 / 12] * 2)


def test_a_setting_leaves_the_pool_where_the_f_test_of_its_own_degrees_of_freedom_rejects():
    """Of five alike and one with more spread, which share is (5 + ratio) / 6: it leaves at an F of 10 %."""
    limit = stats.f.isf(0.10, 2, 12)
    for factor, shares in ((0.97, True), (1.03, False)):
        ratio = factor * limit * 5 / (6 - factor * limit)  # so that its variance is factor * limit times the pool's
        wider = math.sqrt(ratio)
        found = Estimates.of([np.array([-wider, 0, wider]), *(np.array([-1.0, 0, 1]) for _ in range(5))])
        assert found.shared.tolist() == [shares, *[True] * 5]


def test_a_pool_of_one_is_none():
    values = [np.array([-1.0, 0, 1]), np.array([-2.0, 0, 2])]
    found = Estimates.of(values, [True, False])
    assert found.freedom == 0 and not found.shared.any()
    assert found.p.shape == found.pooled.shape == ()


def test_the_best_of_several_pays_for_the_choice():
    means = Estimates.of([np.array([-1.0, 0, 1]) + mean for mean in (2.0, 1.9, -3.0)])
    parts = tuple(Contrast({place: 1.0}) for place in range(3))
    one = parts[0].interval(means)
    largest, least = Largest(parts), Least(parts)
    assert largest.value(means) == 2 and least.value(means) == -3
    assert largest.low(means, 0.025) < one[1] and largest.high(means, 0.025) == one[2]
    assert least.low(means, 0.025) == parts[2].low(means, 0.025)
    assert least.high(means, 0.025) > parts[2].high(means, 0.025)
    assert against_best([{0: 1.0}], [{1: 1.0}]) == Contrast({0: 1.0, 1: -1.0})
    assert against_best([{0: 1.0}, {1: 1.0}], [{2: 1.0}]).value(means) == 5


def test_counts_and_the_best_place_have_bounds_of_their_own():
    means = Estimates.of([np.array([-0.01, 0, 0.01]) + mean for mean in (0.0, 0.5, 0.49, 0.001)])
    above = Count(tuple(Contrast({place: 1.0, 0: -1.0}) for place in (1, 2, 3)), 0.0)
    assert [float(part) for part in above.interval(means)] == [3, 2, 3]  # of 0.001 nobody can be sure
    best = Best({0: 0.0, 1: 0.4, 2: 0.6, 3: 1.0})
    assert [float(part) for part in best.interval(means)] == [0.4, 0.4, 0.6]
    assert [float(part) for part in Difference(best, above).interval(means)] == pytest.approx([-2.6, -2.6, -1.4])


def test_the_largest_covers_the_true_one():
    """Nine equal means: the best of nine looks better than it is, and its lower bound is wrong in 2.5 % at most."""
    runs = list(np.random.default_rng(1).normal(size=(9, 4000, 3)))
    parts = tuple(Contrast({place: 1.0}) for place in range(9))
    _, low, high = Largest(parts).interval(Estimates.of(runs))
    assert (low > 0).mean() <= 0.025 + 0.007 and (high < 0).mean() <= 0.025
    _, low, high = Best({place: float(place) for place in range(9)}).interval(Estimates.of(runs))
    assert ((low > 4) | (high < 4)).mean() <= 0.05 + 0.01  # whichever we call the best


@pytest.mark.parametrize(
    ("interval", "between", "verdict"),
    [((0.1, 0.3), (0, None), 1), ((-0.3, -0.1), (0, None), -1), ((-0.1, 0.1), (0, None), 0),
     ((0.0, 0.0), (0, None), -1), ((-0.01, 0.01), (-0.02, 0.02), 1), ((-0.03, 0.01), (-0.02, 0.02), 0),
     ((0.03, 0.04), (-0.02, 0.02), -1),
     ((-0.01, 9.0), (-0.015, None), 1), ((-0.2, -0.01), (None, 0), 1),
     ((-0.02, 0.01), (-0.02, 0.02), 0), ((-0.01, 0.02), (-0.02, 0.02), 0),  # to touch a bound is not to be inside
     ((-0.03, -0.02), (-0.02, 0.02), -1), ((0.02, 0.03), (-0.02, 0.02), -1)],
)  # fmt: skip
def test_the_printed_interval_decides(interval, between, verdict):
    assert decide(sum(interval) / 2, *interval, between) == verdict


def test_a_verdict_says_which_variance_it_used():
    values = [np.array([-0.01, 0, 0.01]) + mean for mean in (0.1, 0.0, 0.0)]
    found = judge(ONE_AGAINST_ANOTHER, Estimates.of(values), (0, None))
    assert found.verdict == "reproduced" and found.variance == "sd 0.0100 pooled, 6 df, Bartlett p 1.00"
    assert found.spelled() == "+0.1000 [+0.0800, +0.1200] over 3 seeds"
    assert judge(ONE_AGAINST_ANOTHER, Estimates.of(values, [False] * 3), (0, None)).variance == "own variances"
    wild = [np.array([-30.0, 0, 30]), *(np.array([-1.0, 0, 1]) for _ in range(3))]
    says = f"own variances, Bartlett p {stats.bartlett(*wild).pvalue:.2g}"
    assert judge(ONE_AGAINST_ANOTHER, Estimates.of(wild), (0, None)).variance == says
    wider = Estimates.of([np.array([-3.0, 0, 3]), *(np.array([-1.0, 0, 1]) for _ in range(5))])
    assert judge(Contrast({0: 1.0, 1: -1.0, 2: -1.0}), wider, (0, None)).variance.endswith(
        "; own variance for 1 of 3 settings"
    )


def test_a_verdict_says_how_many_seeds_it_has():
    values = [np.arange(seeds) + 0.5 for seeds in (3, 5, 4)]
    estimates = Estimates.of(values)
    for weights, seeds in (
        ({0: 1.0}, "3 seeds"),
        ({0: 1.0, 1: 1.0}, "3 to 5 seeds"),
        ({0: 1, 1: 1, 2: 1}, "3 to 5 seeds"),
    ):
        assert judge(Contrast(weights), estimates, (0, None)).seeds == seeds


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        (["reproduced", "reproduced"], "reproduced"),
        (["not reproduced", "not reproduced"], "not reproduced"),
        (["reproduced", "not reproduced"], "mixed"),
        (["reproduced", "not reproduced", "inconclusive"], "inconclusive"),
        (["reproduced", "inconclusive"], "inconclusive"),
        (["not reproduced", "inconclusive"], "inconclusive"),  # as if both signs were turned
        (["reproduced", "not run", "inconclusive"], "not run"),
    ],
)
def test_a_sentence_on_several(parts, verdict):
    assert combined(parts) == verdict


@pytest.mark.parametrize(("effect", "least", "most"), [(0.006, 48, 66), (0.015, 8, 13), (0.02, 5, 9)])
def test_the_seeds_that_a_verdict_takes(effect, least, most):
    """n = 2 (1.96 + 0.84)^2 (sd / effect)^2 and a little more for t: 58, 9 and 5 at an sd of 0.0115."""
    estimates = Estimates.of([np.array([-0.0115, 0, 0.0115]) + mean for mean in (effect, 0, 0, 0, 0, 0)])
    assert least <= 3 + more_seeds(ONE_AGAINST_ANOTHER, estimates, (0, None)) <= most
    assert more_seeds(ONE_AGAINST_ANOTHER, estimates, (effect + 1e-9, None)) is None


def test_what_failures_alone_cannot_exclude():
    assert share_limit(0, 3) == pytest.approx(1 - 0.05 ** (1 / 3)) and share_limit(0, 5) < 0.46
    assert share_limit(3, 3) == 1


def test_the_expected_best_of_k():
    assert expected_best([0.1, 0.5, 0.3], 1) == pytest.approx(0.3) and expected_best([0.1, 0.5, 0.3], 3) == 0.5


RULES = {rule.name: rule for rule in rules()}


@pytest.mark.parametrize("name", RULES)
def test_at_no_effect_a_verdict_is_rare(name):
    """5 % at most, and three standard errors of a thousand experiments."""
    at = 0.02 if name.startswith("equivalent") else 0.0
    reproduced, refuted = rates(RULES[name], at, 3, times=1000)
    assert reproduced + refuted <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)


@pytest.mark.parametrize("name", ["one setting against another, of six", "one setting against a number",
                                  "a sentence on two, against a third", "four cells with signs",
                                  "a range's mean over lr against gamma 1"])  # fmt: skip
def test_a_rule_is_symmetric(name):
    for effect in (0.01, 0.02):
        up, down = rates(RULES[name], effect, 3, times=2000), rates(RULES[name], -effect, 3, times=2000)
        error = 4 * math.sqrt(0.5 / 2000)
        assert up[0] == pytest.approx(down[1], abs=error) and up[1] == pytest.approx(down[0], abs=error)


def test_turning_all_signs_turns_the_verdict():
    random = np.random.default_rng(2)
    for _ in range(100):
        values = [random.normal(size=3) for _ in range(4)]
        up, down = (ONE_AGAINST_ANOTHER.interval(Estimates.of([sign * part for part in values])) for sign in (1, -1))
        assert decide(*up, (0, None)) == -decide(*down, (0, None))


def test_pooling_survives_the_archives_own_spreads():
    for rule in unlike():
        assert sum(rates(rule, 0.0, 3, times=2000)) <= 0.12, rule.name
        assert sum(rates(rule, 0.0, 5, times=2000)) <= 0.07, rule.name


def test_five_points_are_found():
    reproduced, refuted = rates(RULES["one setting against another, of six"], 0.05, 3, times=1000)
    assert reproduced > 0.95 and refuted == 0 and SD == 0.011
    assert trained(1, 4, 3)["some trains in every seed"] == 1 and trained(0, 4, 3)["none of 4 trains"] == 1


def test_repetitions_are_judged_one_by_one():
    """Leading axes are repetitions of the experiment: each has the value and the bounds that it has alone."""
    values = [np.array([[-1.0, 0, 1], [-0.1, 0, 0.1]]) + mean for mean in (0.0, 0.4, 1.5)]
    parts = tuple(Contrast({place: 1.0, 0: -1.0}) for place in (1, 2))
    for quantity in (Contrast({0: 1.0, 1: -1.0}), Largest(parts), Least(parts), Count(parts, 0.1),
                     Best({0: 0.0, 1: 0.5, 2: 1.0}), Difference(parts[0], parts[1])):  # fmt: skip
        together = np.array(quantity.interval(Estimates.of(values)))
        alone = [quantity.interval(Estimates.of([part[row] for part in values])) for row in (0, 1)]
        assert together == pytest.approx(np.array(alone, float).T)


def test_a_difference_spends_half_of_its_error_on_each_part():
    means = Estimates.of([np.array([-1.0, 0, 1]) + mean for mean in (0.0, 5.0)])
    of, minus = Contrast({1: 1.0}), Contrast({0: 1.0})
    assert Difference(of, minus).low(means, 0.05) == of.low(means, 0.025) - minus.high(means, 0.025)
    assert Difference(of, minus).high(means, 0.05) == of.high(means, 0.025) - minus.low(means, 0.025)


def margin_of(quantity, bound, target):
    """The smallest distance of setting 1 from setting 0 at which the bound is the target, of three alike."""
    apart = np.linspace(0, 6, 6001)
    values = [np.array([-1.0, 0, 1]) + mean[:, None] for mean in (0 * apart, apart, 0 * apart - 9)]
    return apart[np.argmax(getattr(quantity, bound)(Estimates.of(values), 0.025) == target)]


def test_the_best_place_and_a_count_pay_for_every_comparison():
    half = math.sqrt(2 / 3)  # a difference of two means of three, by a pooled variance of 6 degrees of freedom
    best = Best({0: 0.0, 1: 1.0, 2: 2.0})  # of three, each is compared with two
    assert margin_of(best, "low", 1.0) == pytest.approx(stats.t.ppf(1 - 0.025 / 2, 6) * half, abs=0.002)
    count = Count(tuple(Contrast({place: 1.0, 0: -1.0}) for place in (1, 2)), 0.5)
    assert margin_of(count, "low", 1) == pytest.approx(0.5 + stats.t.ppf(1 - 0.025 / 2, 6) * half, abs=0.002)
    count = Count(tuple(Contrast({0: 1.0, place: -1.0}) for place in (1, 2)), -0.5)
    assert margin_of(count, "high", 1) == pytest.approx(0.5 + stats.t.ppf(1 - 0.025 / 2, 6) * half, abs=0.002)


def test_what_lies_on_the_margin_is_not_above_it():
    same = Estimates.of([np.zeros(3), np.full(3, 0.5)])
    assert [int(part) for part in Count((ONE_AGAINST_ANOTHER,), -0.5).interval(same)] == [0, 0, 0]
    assert [float(part) for part in Best({0: 0.0, 1: 1.0}).interval(Estimates.of([np.zeros(3)] * 2))] == [0, 0, 1]


def test_the_best_of_ours_is_whichever_is():
    means = Estimates.of([np.array([-1.0, 0, 1]) + mean for mean in (1.9, 2.0, -3.0)])
    assert against_best([{0: 1.0}, {1: 1.0}], [{2: 1.0}]).value(means) == 5


def test_a_repetition_is_drawn_from_what_was_estimated():
    """Setting 0 has its own variance, 100; the others share 1."""
    values = [np.array([-10.0, 0, 10]), *(np.array([-1.0, 0, 1]) + mean for mean in (5.0, 7.0, 9.0))]
    found = Estimates.of(values, [False, True, True, True])
    again = found.repeated(np.array([4, 16, 4, 4]), 20_000, np.random.default_rng(0))
    assert again.means.mean(0) == pytest.approx([0, 5, 7, 9], abs=0.15)
    assert again.means.std(0) == pytest.approx([5, 0.25, 0.5, 0.5], rel=0.05)
    assert again.variances.mean(0) == pytest.approx([100, 1, 1, 1], rel=0.05)
    assert again.freedom == 6 + 13 + 1 + 1 and again.pooled.mean() == pytest.approx(1, rel=0.02)
    assert again.pooled.var() == pytest.approx(2 / 21, rel=0.1)  # of chi square over its degrees of freedom
    first = found.means + np.array([5, 0.25, 0.5, 0.5]) * np.random.default_rng(0).standard_normal((20_000, 4))
    assert again.means == pytest.approx(first)
    alone = Estimates.of(values, [False] * 4).repeated(np.full(4, 3), 10, np.random.default_rng(0))
    assert alone.freedom == 0 and (alone.pooled == 0).all()


def test_an_interval_has_the_level_that_is_asked_for():
    half = stats.t.ppf(0.9, 2) * np.std([1, 2, 4], ddof=1) / math.sqrt(3)
    assert t_interval(np.array([1, 2, 4]), 0.8)[2] == pytest.approx(7 / 3 + half)
    assert curve_interval([[1.0], [2.0], [4.0]], 0.8)[0, 2] == pytest.approx(7 / 3 + half)
    means = Estimates.of([np.array([1.0, 2, 4])])
    assert Contrast({0: 1.0}).interval(means, 0.8)[2] == pytest.approx(7 / 3 + half)


def test_numbers_that_make_no_sense_are_refused_in_words():
    with pytest.raises(ValueError, match=r"^no values to average$"):
        t_interval([])
    for k in (0, 3):
        with pytest.raises(ValueError, match=f"^k is {k}, must be between 1 and 2$"):
            expected_best([0.1, 0.2], k)


def test_the_power_is_that_of_the_level_asked_for():
    estimates = Estimates.of([np.array([-0.0115, 0, 0.0115]) + mean for mean in (0.015, 0, 0, 0, 0, 0)])
    more = [more_seeds(ONE_AGAINST_ANOTHER, estimates, (0, None), level) for level in (0.8, 0.95, 0.999)]
    assert more[0] < more[1] < more[2]
