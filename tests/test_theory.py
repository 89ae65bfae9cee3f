"""The theory package: proved constants, oracles, bounds, the iteration, the grid, and the command line."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from data.tensors import TensorDataset, generator
from optimizers import powerball
from optimizers.theorem import TheoremPowerSGD
from runs import table
from runs.schema import ConfigError
from theory import batch, bounds, experiment, mnist, oracle, problems, remarks, verdicts
from theory.iteration import iterate, squared_norm
from theory.settings import Batch, Mnist, Realised, Steps, Theory, Thresholds, validate

from .helpers import ROOT, typed

F64 = torch.float64
GAMMAS = (0.0, 0.25, 0.5, 0.75, 1.0)
quick = settings(deadline=None, max_examples=100)
numbers = st.floats(-1e6, 1e6, allow_subnormal=False).filter(lambda z: z == 0 or abs(z) > 1e-6)
gammas = st.one_of(st.sampled_from(GAMMAS), st.floats(0.01, 0.99))


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small(tmp_path):
    """Settings that take a second."""
    return Theory(
        seed=0, repetitions=4, problems={"quadratic": [2], "cosines": [3]}, horizons=[3, 6], gammas=[0, 0.5, 1],
        betas=[0, 0.9], noise=1.0, realised=Realised(calls={"cosines": [3]}, rows={"robust": [4]}, horizons=[3]),
        steps=Steps(dimension=4, horizon=5, betas=[0, 0.9], multiples=[0.3, 1, 3]),
        mnist=Mnist(run=False, gammas=[0.4], steps=4, batch=8, tuning_seed=0, seeds=[1, 2], lrs=[0.1, 0.01],
                    multiples=[1, 10], images=20, iterations=2),
        batch=Batch(run=False, lr=0.1, path_gamma=0.5, epochs=[0, 1], gammas=[0.5, 1], sizes=[1, 64],
                    draws=400, images=10_000, seeds=[1, 2]),
        thresholds=Thresholds(level=0.95, rounding=1e-9, slope=0.1, variance=0.05, cosine=0.95), workers=1,
        results=str(tmp_path),
        data_dir=str(tmp_path), only=[], redraw=False, progress=False,
    )  # fmt: skip


def sigma(z, gamma):
    return float(powerball(torch.tensor([z], dtype=F64), gamma))


# The Powerball function (section 2.1, Supplementary C and figure 3)


@quick
@given(numbers, gammas)
def test_powerball_is_odd(z, gamma):
    assert sigma(-z, gamma) == -sigma(z, gamma)


@quick
@given(numbers, numbers, gammas)
def test_powerball_is_monotone(a, b, gamma):
    low, high = sorted((a, b))
    assert sigma(low, gamma) <= sigma(high, gamma) * (1 + math.copysign(1e-15, high))


@quick
@given(numbers)
def test_powerball_is_the_identity_at_1_and_the_sign_at_0(z):
    assert sigma(z, 1) == z
    assert sigma(z, 0) == (z > 0) - (z < 0)


@quick
@given(numbers.filter(lambda z: z != 0), gammas.filter(lambda g: g < 1))
def test_powerball_amplifies_small_and_contracts_large_values(z, gamma):
    size = abs(sigma(z, gamma))
    if abs(z) < 1:
        assert abs(z) <= size <= 1 + 1e-15
    else:
        assert 1 - 1e-15 <= size <= abs(z)


@quick
@given(numbers, st.floats(1e-6, 1e6), gammas)
def test_powerball_is_homogeneous_of_degree_gamma(z, c, gamma):
    assert sigma(c * z, gamma) == pytest.approx(c**gamma * sigma(z, gamma), rel=1e-9)


# The problems: L, f*, and the gradient

SIZES = (2, 7, 12, 36)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", problems.MAKERS)
def test_gradient_is_that_of_the_value(name, n):
    problem = problems.MAKERS[name](n, generator(1, name, n))
    x = problem.start(5, generator(2)).requires_grad_()
    (expected,) = torch.autograd.grad(problem.value(x).sum(), x)
    torch.testing.assert_close(problem.gradient(x.detach()), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(problem.gradient(x.detach()[0]), expected[0], rtol=1e-10, atol=1e-12)
    assert problem.n == n and x.dtype == F64


@quick
@given(st.sampled_from(sorted(problems.MAKERS)), st.sampled_from(SIZES), st.integers(0, 2**32), st.floats(-4, 1))
def test_l_is_a_lipschitz_constant_of_the_gradient(name, n, seed, distance):
    problem = problems.MAKERS[name](n, generator(seed, "problem"))
    x = problem.start(20, generator(seed, "x"))
    y = x + 10**distance * torch.randn(x.shape, generator=generator(seed, "y"), dtype=F64)
    change = (problem.gradient(x) - problem.gradient(y)).norm(dim=-1)
    assert bool((change <= problem.lipschitz * (x - y).norm(dim=-1) * (1 + 1e-9)).all())
    assert bool((problem.value(x) >= problem.f_star).all())


@pytest.mark.parametrize("name, attained", [("quadratic", 1), ("cosines", 1), ("robust", 1), ("network", None)])
def test_l_is_attained_and_f_star_too_where_the_docstrings_say_so(name, attained):
    problem = problems.MAKERS[name](12, generator(3))
    solution = {"robust": "solution", "network": "teacher"}.get(name)
    at = torch.zeros(12, dtype=F64) if solution is None else getattr(problem, solution).flatten()
    assert float(problem.value(at)) == pytest.approx(problem.f_star, abs=1e-20)
    hessian = torch.autograd.functional.hessian(problem.value, at)
    largest = float(torch.linalg.eigvalsh(hessian).abs().max())
    if attained:
        assert largest == pytest.approx(problem.lipschitz * attained, rel=1e-9)
    else:
        assert 0.05 * problem.lipschitz < largest <= problem.lipschitz


@pytest.mark.parametrize("name", problems.MAKERS)
def test_convex_or_not_as_declared(name):
    problem = problems.MAKERS[name](6, generator(4))
    points = problem.start(40, generator(5))
    lowest = min(float(torch.linalg.eigvalsh(torch.autograd.functional.hessian(problem.value, x)).min())
                 for x in points)  # fmt: skip
    assert (lowest > -1e-12) == problem.convex


def test_the_inequalities_behind_the_constants():
    r = torch.linspace(-20, 20, 400_001, dtype=F64)
    second = 2 * (1 - 3 * r**2) / (1 + r**2) ** 3
    assert float(second.max()) == 2 and float(second.min()) == pytest.approx(-0.5)
    assert float((2 * r / (1 + r**2) ** 2).max()) == pytest.approx(problems.RobustRegression.STEEPEST, rel=1e-8)
    t = torch.tanh(r)
    assert float((2 * t * (1 - t**2)).abs().max()) == pytest.approx(problems.Network.BEND, rel=1e-6)


# The oracles: assumption 3.2 and A.2


@pytest.mark.parametrize("batch", [1, 4, 25])
@pytest.mark.parametrize("kind, name", [("direct", "cosines"), ("calls", "cosines"), ("rows", "robust")])
def test_oracle_is_unbiased_with_the_variance_of_a_2(kind, name, batch):
    problem = problems.MAKERS[name](5, generator(6))
    source = oracle.make(kind, problem, 1.5)
    x = problem.start(1, generator(7))
    samples = 20_000
    errors = source(x.expand(samples, -1), batch, generator(8, kind, batch)) - problem.gradient(x)
    variance = float(errors.square().sum(-1).mean())
    bias = float(errors.mean(0).norm())
    assert bias < 5 * math.sqrt(variance / samples)
    if kind == "rows":
        assert variance <= source.sigma**2 / batch  # a proved bound, not the value
        single = remarks._row_variance(problem, x[0])
        assert batch * variance == pytest.approx(single, rel=0.05)
    else:
        assert batch * variance == pytest.approx(source.sigma**2, rel=0.03)


def test_the_row_oracle_is_a_mean_over_its_rows():
    problem = problems.robust(4, generator(9))
    x = problem.start(3, generator(10))
    one = torch.eye(32, dtype=F64)
    each = torch.stack([problem.gradient(point, one) for point in x])
    torch.testing.assert_close(each.mean(1), problem.gradient(x))
    slopes = 2 * problem._residuals(x) / (1 + problem._residuals(x) ** 2) ** 2
    torch.testing.assert_close(each[1, 5], slopes[1, 5] * problem.rows[5])


def test_the_exact_oracle_has_no_noise():
    problem = problems.quadratic(3, generator(11))
    x = problem.start(2, generator(12))
    assert torch.equal(oracle.Exact(problem)(x, 1, generator(0)), problem.gradient(x)) and oracle.Exact.sigma == 0


# The bounds


@quick
@given(
    st.floats(1e-3, 1e3), st.floats(0.1, 10), st.integers(1, 10_000), gammas, st.floats(0, 0.95), st.floats(1e-3, 1e3)
)
def test_the_closed_form_is_the_smallest_bound_over_eps(gap, lipschitz, n, gamma, beta, sigma):
    kind = {"lipschitz": lipschitz, "beta": beta, "sigma": sigma}
    rest = {"n": n, "steps": 10, "gamma": gamma}
    best = bounds.best_eps(gap, **kind)
    smallest = bounds.bound(gap, **kind, **rest)
    assert 0 < best <= 0.5
    assert bounds.theorem_3_2(gap, **kind, **rest, eps=best) == pytest.approx(smallest, rel=1e-9)
    for other in (best / 2, best * 0.99, min(0.99, best * 1.01), 0.5, 0.9):
        assert bounds.theorem_3_2(gap, **kind, **rest, eps=other) >= smallest * (1 - 1e-9)


@quick
@given(st.integers(1, 10_000), gammas)
def test_norm_of_ones(n, gamma):
    p = math.inf if gamma == 1 else (1 + gamma) / (1 - gamma)
    expected = float(torch.linalg.vector_norm(torch.ones(n, dtype=F64), p))
    assert bounds.ones_norm(n, gamma) == pytest.approx(expected, rel=1e-9)


def test_bounds_become_one_another():
    """Remarks 3.2, 3.4 and B.1."""
    f = {"lipschitz": 3.0, "n": 7, "steps": 5, "gamma": 0.3}
    assert bounds.bound(2.0, **f) == pytest.approx(bounds.theorem_a_1(2.0, **f), rel=1e-14)
    assert bounds.bound(2.0, **f, beta=0.8) == pytest.approx(bounds.theorem_b_1(2.0, **f, beta=0.8), rel=1e-14)
    assert bounds.bound(2.0, **f, sigma=1e-9) == pytest.approx(bounds.theorem_a_1(2.0, **f), rel=1e-8)
    assert bounds.theorem_3_1(2.0, **f, sigma=0, eps=1e-9) == pytest.approx(bounds.theorem_a_1(2.0, **f), rel=1e-8)
    assert bounds.theorem_3_2(2.0, **f, sigma=2, eps=0.3, beta=0) == bounds.theorem_3_1(2.0, **f, sigma=2, eps=0.3)
    assert bounds.bound(2.0, **f, sigma=2, batch=5) == bounds.bound(2.0, **f, sigma=2)
    assert bounds.best_eps(2.0, lipschitz=3.0, beta=0.5, sigma=0) == 0
    assert [bounds.theorem(noisy, beta) for noisy in (False, True) for beta in (0, 0.5)] == list(bounds.THEOREMS)


@quick
@given(st.floats(0, 1e3), st.floats(1e-3, 1e3))
def test_at_gamma_1_the_textbook_bound_of_sgd_is_smaller_by_up_to_2(gap, sigma):
    """Against contribution 2 ("the best known bounds ... in terms of both the constants and rates")."""
    ours = bounds.bound(gap, lipschitz=2.0, n=9, steps=10, gamma=1, sigma=sigma)
    ratio = ours / bounds.textbook_sgd(gap, lipschitz=2.0, steps=10, sigma=sigma)
    a = 4 * gap / sigma**2
    assert ratio == pytest.approx(1 + 2 * math.sqrt(1 + a) / (2 + a), rel=1e-9)
    assert 1 < ratio <= 2 + 1e-12


@quick
@given(st.floats(0, 1e3), st.floats(1e-3, 1e3), st.floats(0, 0.99))
def test_with_momentum_unbiasedness_gives_a_smaller_bound_too(gap, sigma, beta):
    about = {"lipschitz": 2.0, "steps": 10, "sigma": sigma}
    ratio = bounds.bound(gap, n=9, gamma=1, beta=beta, **about) / bounds.unbiased_sgdm(gap, beta=beta, **about)
    assert 1 < ratio <= 4 * (1 + beta) / (2 + beta) + 1e-9
    assert bounds.unbiased_sgdm(gap, beta=0, **about) == pytest.approx(bounds.textbook_sgd(gap, **about))


@quick
@given(st.floats(0, 0.95), st.floats(0.01, 1), st.floats(-3, 3), st.floats(0, 3), st.integers(1, 60))
def test_the_smaller_bound_of_sgdm_holds(beta, curvature, start, sigma, steps):
    """f(x) = curvature x^2 / 2 with L = 1: the second moments of (x, v), exactly, with the variance sigma^2 / T."""
    alpha = (1 - beta) ** 2 / (1 + beta)
    xx, xv, vv, total = start**2, 0.0, 0.0, 0.0
    for _ in range(steps):
        noise = sigma**2 / steps
        total += curvature**2 * xx + noise
        c = alpha * curvature
        vv, vx = beta**2 * vv - 2 * beta * c * xv + c**2 * xx + alpha**2 * noise, beta * xv - c * xx
        xx, xv = xx + 2 * vx + vv, vx + vv
    bound = bounds.unbiased_sgdm(curvature * start**2 / 2, lipschitz=1, steps=steps, beta=beta, sigma=sigma)
    assert total / steps <= bound * (1 + 1e-9) + 1e-12


# The iteration


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("name", problems.MAKERS)
def test_iteration_is_the_optimizer_step_for_step(name, gamma, beta):
    problem = problems.MAKERS[name](12, generator(13))
    starts, steps = problem.start(3, generator(14)), 15
    noise = torch.randn(steps, 3, 12, generator=generator(15), dtype=F64)
    seen = []
    draws = iter(noise)

    def watch(t, x, g):
        seen.append((t, x.clone(), g.clone()))

    end, norms = iterate(lambda x: problem.gradient(x) + next(draws), starts, lipschitz=problem.lipschitz, gamma=gamma,
                         beta=beta, steps=steps, watch=watch)  # fmt: skip
    assert [t for t, *_ in seen] == list(range(1, steps + 1))
    for row in range(3):
        p = nn.Parameter(starts[row].clone())
        opt = TheoremPowerSGD([p], problem.lipschitz, gamma, beta)
        for t in range(steps):
            torch.testing.assert_close(seen[t][1][row], p.detach(), rtol=1e-9, atol=1e-10)
            p.grad = problem.gradient(p.detach()) + noise[t, row]
            expected = torch.linalg.vector_norm(p.grad, 1 + gamma) ** 2
            assert float(norms[t, row]) == pytest.approx(float(expected), rel=1e-7)
            opt.step()
        torch.testing.assert_close(end[row], p.detach(), rtol=1e-9, atol=1e-10)


def test_iteration_with_a_constant_step_is_plain_momentum():
    problem = problems.quadratic(4, generator(16))
    x = problem.start(2, generator(17))
    end, _ = iterate(problem.gradient, x, lipschitz=1.0, gamma=1, beta=0.5, steps=2, constant=0.1)
    first = x - 0.1 * problem.gradient(x)
    torch.testing.assert_close(end, first + 0.5 * (first - x) - 0.1 * problem.gradient(first))


def test_iteration_rests_where_the_gradient_is_zero():
    problem = problems.cosines(3, generator(18))
    end, norms = iterate(problem.gradient, torch.zeros(2, 3, dtype=F64), lipschitz=1.0, gamma=0.5, beta=0.9, steps=3)
    assert not end.any() and not norms.any()


# The theorems


@quick
@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=8), st.integers(0, 2**32), gammas, st.floats(0, 0.95),
       st.integers(1, 30))  # fmt: skip
def test_bounds_hold_on_random_quadratics_with_exact_gradients(spectrum, seed, gamma, beta, steps):
    """A.1 and B.1."""
    n = len(spectrum)
    u = torch.randn(n, generator=generator(seed, "u"), dtype=F64)
    problem = problems.Quadratic(torch.tensor(spectrum, dtype=F64), u)
    x = problem.start(5, generator(seed, "x"))
    _, norms = iterate(problem.gradient, x, lipschitz=problem.lipschitz, gamma=gamma, beta=beta, steps=steps)
    for left, gap in zip(norms.mean(0).tolist(), problem.value(x).tolist(), strict=True):
        right = bounds.bound(gap, lipschitz=problem.lipschitz, n=n, steps=steps, gamma=gamma, beta=beta)
        assert left <= right * (1 + 1e-9)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=6), st.integers(0, 2**32), gammas, st.floats(0, 0.95),
       st.floats(0.01, 100), st.integers(1, 20))  # fmt: skip
def test_bounds_hold_on_random_quadratics_with_noise(spectrum, seed, gamma, beta, noise, steps):
    """3.1 and 3.2, in mean over 200 repetitions; they are far enough apart for chance not to matter."""
    n = len(spectrum)
    problem = problems.Quadratic(torch.tensor(spectrum, dtype=F64))
    x = problem.start(1, generator(seed, "x")).expand(200, -1)
    source, draws = oracle.Direct(problem, noise), generator(seed, "noise")
    _, norms = iterate(lambda at: source(at, steps, draws), x, lipschitz=problem.lipschitz, gamma=gamma, beta=beta,
                       steps=steps)  # fmt: skip
    right = bounds.bound(float(problem.value(x[0])), lipschitz=problem.lipschitz, n=n, steps=steps, gamma=gamma,
                         beta=beta, sigma=noise)  # fmt: skip
    assert float(norms.mean()) <= right


def test_t_times_the_left_side_of_a_1_cannot_fall():
    """Remark 3.3: O(1/T) is never beaten, because the sum over t has no negative terms."""
    problem = problems.cosines(5, generator(19))
    x = problem.start(1, generator(20))
    for gamma in GAMMAS:
        _, norms = iterate(problem.gradient, x, lipschitz=problem.lipschitz, gamma=gamma, beta=0, steps=50)
        assert bool((norms.cumsum(0).diff(dim=0) >= 0).all())


# Grid, remarks, verdicts


def test_grid_has_every_cell_and_each_row_says_what_it_is(small):
    rows = [row for task in experiment.tasks(small) for row in experiment.measure(task, small)]
    keys = [(r["problem"], r["oracle"], r["n"], r["T"], r["gamma"], r["beta"]) for r in rows]
    assert len(keys) == len(set(keys)) == 2 * 2 * 3 * 2 * 2 + 2 * 1 * 3 * 2
    assert all(row["holds"] and row["repetitions"] == 4 for row in rows)
    for row in rows:
        assert row["theorem"] == bounds.theorem(row["oracle"] != "exact", row["beta"])
        assert (row["sigma"] == 0) == (row["oracle"] == "exact")
        assert row["measured_low"] <= row["measured"] <= row["measured_high"]
        assert row["ratio"] == pytest.approx(row["measured"] / row["bound"])


def test_a_cell_is_what_it_says(small):
    """One stochastic row again, by hand with the optimizer."""
    task = experiment.Task("cosines", 3, 0.5, "direct", (3,), (0.9,))
    (row,) = experiment.measure(task, small)
    problem, starts = experiment.make_problem(small, "cosines", 3)
    gap = float(problem.value(starts[0]))
    size = math.sqrt(2 * problem.lipschitz * gap)
    draws = generator(0, "noise", "cosines", 3, 3, "direct")
    noise = [torch.randn(4, 3, generator=draws).double() * size / math.sqrt(3 * 3) for _ in range(3)]
    total = 0.0
    for repetition in range(4):
        p = nn.Parameter(starts[0].clone())
        opt = TheoremPowerSGD([p], problem.lipschitz, 0.5, 0.9)
        for step in range(3):
            p.grad = problem.gradient(p.detach()) + noise[step][repetition]
            total += float(squared_norm(p.grad, 0.5))
            opt.step()
    assert row["measured"] == pytest.approx(total / 12, rel=1e-6)
    right = min(bounds.theorem_3_2(gap, lipschitz=problem.lipschitz, n=3, steps=3, gamma=0.5, beta=0.9, sigma=size,
                                   eps=k / 10_000) for k in range(1, 10_000))  # fmt: skip
    assert row["bound"] == pytest.approx(right, rel=1e-6)


def test_a_row_above_its_bound_does_not_hold(small):
    task = experiment.Task("cosines", 3, 0.5, "exact", (3,), (0.0,))
    left = torch.tensor([1.0, 1.0, 1.0, 1.0])
    assert experiment._row(task, small, 0.0, 3, 0.0, left, 2.0, 0.5)["holds"]
    assert not experiment._row(task, small, 0.0, 3, 0.0, left, 2.0, 1 + 1e-6)["holds"]  # one starting point above
    noisy = experiment.Task("cosines", 3, 0.5, "direct", (3,), (0.0,))
    row = experiment._row(noisy, small, 0.0, 3, 1.0, torch.tensor([0.0, 2.1]), 2.0, None)
    assert row["ratio"] < 1 and row["measured_high"] > 2 and not row["holds"]  # the interval reaches above


def test_slope():
    assert experiment.slope({10: 5.0, 100: 0.5, 1000: 0.05}) == pytest.approx(-1)


def test_cheap_remarks_say_what_the_notes_say(small):
    assert all(row["holds"] for row in remarks.limits(small) + remarks.attained(small))
    assert [row["holds"] for row in remarks.sgd(small)] == [True] + [False] * 5


@pytest.mark.slow
def test_measured_remarks_say_what_the_notes_say(small):
    small.repetitions, small.horizons, small.steps.horizon = 30, [10, 1000], 100
    assert all(row["holds"] for row in remarks.variance(small))
    rows = remarks.batches(small)
    last = [row for row in rows if row["T"] == 1000]
    assert not any(row["holds"] for row in last if "B_t = 1:" in row["case"])
    assert all(row["holds"] for row in rows if "B_t = T:" in row["case"])
    assert all(row["holds"] for row in remarks.true_gradient(small))  # also that of B.3's other direction
    noisy = {row["case"]: row["holds"] for row in remarks.sgdm(small)}
    assert list(noisy.values()) == [True, *[False] * (len(noisy) - 1)]


def test_verdicts_follow_the_rows():
    cell = {"theorem": "A.1", "problem": "p", "n": 2, "T": 10, "gamma": 0.5, "beta": 0.0, "worst": 0.5, "holds": True}
    row = {"remark": "3.4 batch", "case": "B_t = 1: x", "problem": "p", "n": 2, "T": 10, "gamma": 0.5, "beta": 0.0,
           "measured": 3.0, "limit": 1.0, "holds": False}  # fmt: skip

    def words(cells, rows):
        tables = {"bounds": cells, "remarks": rows, "batch": []}
        judged_by = {"gamma": 0.4, "cosine": 0.95, "level": 0.95}
        return {v["section"]: v["verdict"] for v in verdicts.judge(tables, judged_by)}

    found = words([cell], [row])
    assert found["theorem A.1"] == "reproduced" and found["theorem 3.2"] == "not run"
    assert found["remark 3.4"] == "reproduced"
    found = words([cell, cell | {"holds": False, "worst": 1.2}], [row, row | {"holds": True, "measured": 0.5}])
    assert found["theorem A.1"] == "not reproduced" and found["remark 3.4"] == "not reproduced"


# The network


def test_power_method_finds_the_largest_eigenvalue():
    torch.manual_seed(0)
    model = nn.Linear(3, 10)
    x, y = torch.randn(20, 3), torch.randint(10, (20,))
    found = mnist.estimate_lipschitz(model, x, y, 100)

    def loss(flat):
        return nn.functional.cross_entropy(x @ flat[:30].view(10, 3).T + flat[30:], y)

    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    exact = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat)).abs().max()
    assert found == pytest.approx(float(exact), rel=1e-2)


def test_the_mean_of_sigma_turns_and_shrinks_for_small_batches_and_not_at_gamma_1(small, monkeypatch):
    labels = torch.arange(300) % 3
    images = (60 * labels).view(-1, 1, 1, 1) + torch.randint(100, (300, 1, 4, 4), generator=generator(0))
    data = TensorDataset(images.to(torch.uint8), labels, num_classes=3, mean=(0.3,), std=(0.25,))
    torch.manual_seed(0)
    monkeypatch.setattr(batch, "dataset", lambda _: data)
    monkeypatch.setattr(batch, "network", lambda seed: nn.Sequential(nn.Flatten(), nn.Linear(16, 3)))
    rows = [row for seed in small.batch.seeds for row in batch.compare(seed, small)]
    assert len(rows) == 2 * 2 * 2 * 2
    for row in rows:
        if row["gamma"] == 1:
            assert row["cosine"] == pytest.approx(1, abs=0.1) and row["length"] == pytest.approx(1, abs=0.3)
    powered = [row for row in rows if row["gamma"] == 0.5]
    for one, many in zip(table.select(powered, batch=1), table.select(powered, batch=64), strict=True):
        assert one["length"] < many["length"] < 1.05


def test_the_agreement_of_means_is_that_of_their_expectations():
    """Two noisy means of (3, 4) against (4, 3): the noise, which a plain norm would count, cancels."""
    one, other = torch.tensor([3.0, 4.0, 1.0]), torch.tensor([3.0, 4.0, 0.0])
    cosine, length = batch.agreement(one, other, torch.tensor([4.0, 3.0, 0.0]))
    assert (cosine, length) == (pytest.approx(24 / 25), pytest.approx(1))
    assert all(math.isnan(value) for value in batch.agreement(one, -one, one))


@pytest.mark.parametrize(
    ("cosines", "verdict"),
    [((0.97, 0.975, 0.98), "reproduced"), ((0.5, 0.51, 0.52), "not reproduced"), ((0.9, 0.95, 1.0), "inconclusive")],
)
def test_the_point_with_the_lowest_cosine_decides_on_the_batch(cosines, verdict):
    rows = [{"gamma": 0.4, "batch": 128, "epoch": 1, "seed": s, "cosine": c} for s, c in enumerate(cosines)]
    rows += [{"gamma": 0.4, "batch": 128, "epoch": 0, "seed": s, "cosine": c} for s, c in enumerate((0.99, 1.0, 1.0))]
    rows += [{"gamma": 0.4, "batch": 1, "epoch": 0, "seed": s, "cosine": 0.1} for s in range(3)]
    found = verdicts._direction(rows, gamma=0.4, cosine=0.95, level=0.95)
    assert found["verdict"] == verdict and "after epoch 1" in found["evidence"]


def test_final_loss_is_the_last_quarter_and_inf_where_it_diverged():
    assert mnist.final_loss([{"loss": value} for value in (9.0, 9, 9, 9, 9, 9, 1, 3)]) == 2
    assert mnist.final_loss([{"loss": 1.0}, {"loss": math.nan}]) == math.inf


# The command


BAD = {
    "gammas=[2]": "gammas: 2.0 must be in [0, 1]",
    "betas=[1]": "betas: 1.0 must be in [0, 1)",
    "horizons=[]": "horizons=[]",
    "horizons=[0]": "horizons: 0 must be at least 1",
    "gamas=[1]": "did you mean gammas?",
    "repetitions=1": "at least 2",
    "noise=0": "noise",
    "+problems.sphere=[2]": "choose one of quadratic",
    "+realised.rows.cosines=[2]": "only robust has rows",
    "results=/proc/nowhere": "cannot be written",
}


@pytest.mark.parametrize("argument", BAD)
def test_bad_input_is_one_line_and_status_2(argument):
    done = typed("-m theory", argument)
    lines = [line for line in done.stderr.splitlines() if line]
    assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert BAD[argument] in lines[0]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"gammas": [1.5]}, "gammas: 1.5"),
        ({"betas": [1.0]}, "betas: 1.0"),
        ({"workers": 0}, "workers: 0"),
        ({"noise": math.inf}, "noise: inf"),
        ({"problems": {"sphere": [2]}}, "problems=sphere"),
        ({"problems": {"cosines": [1]}}, "problems.cosines: 1"),
    ],
)
def test_settings_out_of_range_are_refused(small, change, message):
    for key, value in change.items():
        setattr(small, key, value)
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        validate(small)


def test_config_answers_without_torch():
    code = "import sys; sys.argv = ['theory', '--cfg', 'job']; import runpy\n"
    code += "runpy.run_module('theory', run_name='__main__'); print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "False" and "repetitions: 30" in done.stdout, done.stderr


def test_only_measures_a_table_anew_and_keeps_the_others(tmp_path):
    small = ["problems.quadratic=[2]", "problems.cosines=[3]", "problems.robust=[4]", "problems.network=[2]",
             "workers=1", "horizons=[5,6]", "realised.horizons=[5]", "realised.calls.cosines=[3]",
             "realised.rows.robust=[4]",
             "repetitions=2", "steps.dimension=3", "steps.horizon=4", "mnist.run=false", "batch.run=false"]  # fmt: skip
    assert typed("-m theory", *small, f"results={tmp_path}").returncode == 0
    folder = tmp_path / "theory"
    before = {name: (folder / f"{name}.csv").read_bytes() for name in ("bounds", "remarks", "steps")}
    done = typed("-m theory", *small, "only=[steps]", "steps.betas=[0.5]", f"results={tmp_path}")
    assert done.returncode == 0, done.stderr
    after = {name: (folder / f"{name}.csv").read_bytes() for name in before}
    assert [name for name in before if after[name] != before[name]] == ["steps"]
    assert "steps.betas=[0.5]" in (folder / "README.md").read_text()
    refused = typed("-m theory", "only=[bounds]", f"results={tmp_path}")
    assert refused.returncode == 2 and "only: bounds must be one of steps, mnist, batch" in refused.stderr


def test_redraw_without_tables_says_what_to_run(tmp_path):
    done = typed("-m theory", "redraw=true", f"results={tmp_path}")
    assert done.returncode == 2 and "run: python -m theory" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_the_same_numbers_from_any_number_of_workers_and_when_redrawn(tmp_path):
    some = ["problems.quadratic=[2]", "problems.cosines=[2,3]", "problems.robust=[2]", "problems.network=[2]",
            "horizons=[5,10]", "realised.horizons=[5]", "realised.rows.robust=[4]", "mnist.run=false",
            "batch.run=false"]  # fmt: skip
    for workers in (1, 2):
        done = typed("-m theory", *some, f"workers={workers}", f"results={tmp_path / str(workers)}")
        assert done.returncode == 0, done.stderr
    one, two = (tmp_path / name / "theory" for name in ("1", "2"))
    names = ("bounds.csv", "remarks.csv", "steps.csv", "verdicts.csv", "theory.svg", "steps.svg")
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    before = {path: path.read_bytes() for path in one.iterdir()}
    assert typed("-m theory", "redraw=true", f"results={tmp_path / '1'}").returncode == 0
    assert {path: path.read_bytes() for path in one.iterdir()} == before
    report = (one / "README.md").read_text()
    assert "Changed settings: `problems.quadratic=[2]" in report and "**reproduced**" in report


# What is in the repository


def test_every_row_of_the_archived_table_holds():
    folder = ROOT / "results" / "theory"
    if not folder.exists():
        pytest.skip("make theory has not been run here")
    rows = table.read(folder / "bounds.csv")
    assert rows and all(row["holds"] and row["repetitions"] >= 30 for row in rows)
    assert {row["theorem"] for row in rows} == set(bounds.THEOREMS)
    assert {2, 10_000} <= {row["n"] for row in rows}
    assert {"exact", "direct", "calls", "rows"} == {row["oracle"] for row in rows}
