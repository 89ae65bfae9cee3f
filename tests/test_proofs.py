"""The proofs of Supplementary A and B, step by step, on random instances; and what they leave out.

docs/theory-notes.md says for each step whether it is sound as written. Inequalities are checked with the smooth
problems of theory/problems.py, whose L is proved there, and with errors e_t = g_t - grad f(x_t) of any kind: nothing
below asks them to be random.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers import powerball
from theory import bounds, problems
from theory.iteration import iterate, squared_norm, step_size

F64 = torch.float64
quick = settings(deadline=None, max_examples=60)
gammas = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0.01, 0.99))
betas = st.one_of(st.just(0.0), st.floats(0.01, 0.97))
eps = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**32)
names = st.sampled_from(sorted(problems.MAKERS))
dimensions = st.integers(2, 12)
# Entries of very different sizes, zeros among them.
vectors = st.lists(
    st.one_of(st.just(0.0), st.floats(1e-6, 1e6).flatmap(lambda x: st.sampled_from([x, -x]))), min_size=1, max_size=10
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw(seed):
    return torch.Generator().manual_seed(seed)


def normal(seed, *shape):
    return torch.randn(shape, generator=draw(seed), dtype=F64)


def tensor(values):
    return torch.tensor(values, dtype=F64)


def most(left, right, scale=1.0):
    """left <= right, up to the rounding of terms as large as `scale`."""
    left, right = float(left), float(right)
    assert left <= right + 1e-10 * max(1e-3, abs(right), abs(left), float(scale)), (left, right)


def parts(g, gamma):
    """sigma(g), g . sigma(g), |sigma(g)|^2"""
    powered = powerball(g, gamma)
    return powered, (g * powered).sum(), powered.square().sum()


def alpha_of(g, lipschitz, gamma, beta=0.0):
    _, along, squared = parts(g, gamma)
    return float(step_size(along, squared, lipschitz, beta))


def dual(gamma):
    """p of the theorems, and its conjugate q = (1 + gamma) / (2 gamma)."""
    return (math.inf if gamma == 1 else (1 + gamma) / (1 - gamma)), (
        math.inf if gamma == 0 else (1 + gamma) / gamma / 2
    )


# A.1


@quick
@given(vectors, gammas)
def test_hoelder_step(values, gamma):
    """|sigma(g)|^2 <= ||1||_p (sum |g_i|^{1+gamma})^{2 gamma / (1 + gamma)}, at gamma = 0 and 1 too."""
    g = tensor(values)
    p, q = dual(gamma)
    assert 1 / p + 1 / q == pytest.approx(1)
    _, along, squared = parts(g, gamma)
    assert float(along) == pytest.approx(float(g.abs().pow(1 + gamma).sum()), rel=1e-9)
    ones = bounds.ones_norm(len(g), gamma)
    assert ones == pytest.approx(float(torch.linalg.vector_norm(torch.ones(len(g), dtype=F64), p)))
    most(squared, ones * along ** (2 * gamma / (1 + gamma)))
    # The line's second inequality sign is an equality: (|g|^{2 gamma})^q = |g|^{1 + gamma}.
    if gamma > 0 and bool(g.any()):
        assert float(squared and (g.abs() ** (2 * gamma)).pow(q).sum() ** (1 / q)) == pytest.approx(
            float(along ** (2 * gamma / (1 + gamma))), rel=1e-9
        )


@quick
@given(vectors, gammas)
def test_what_hoelder_is_for(values, gamma):
    """(g . sigma(g))^2 / |sigma(g)|^2 >= ||g||^2_{1+gamma} / ||1||_p, with equality where all |g_i| are equal."""
    g = tensor(values)
    if not bool(g.any()):
        return
    _, along, squared = parts(g, gamma)
    ones = bounds.ones_norm(len(g), gamma)
    most(squared_norm(g, gamma) / ones, along**2 / squared)
    flat = torch.full_like(g, 0.7)
    _, along, squared = parts(flat, gamma)
    assert float(along**2 / squared) == pytest.approx(float(squared_norm(flat, gamma)) / ones, rel=1e-9)


@quick
@given(names, dimensions, seeds, gammas, st.floats(0, 3))
def test_7_is_the_descent_lemma_for_any_step(name, n, seed, gamma, factor):
    problem = problems.MAKERS[name](n, draw(seed))
    x = problem.start(1, draw(seed + 1))[0]
    gradient = problem.gradient(x)
    powered, along, squared = parts(gradient, gamma)
    alpha = factor * alpha_of(gradient, problem.lipschitz, gamma)
    before = problem.value(x)
    right = before - alpha * along + problem.lipschitz / 2 * alpha**2 * squared
    most(problem.value(x - alpha * powered), right, scale=before)


@quick
@given(names, dimensions, seeds, gammas)
def test_8_and_the_step_of_theorem_a_1(name, n, seed, gamma):
    problem = problems.MAKERS[name](n, draw(seed))
    x = problem.start(1, draw(seed + 1))[0]
    gradient = problem.gradient(x)
    powered, along, squared = parts(gradient, gamma)
    after = problem.value(x - alpha_of(gradient, problem.lipschitz, gamma) * powered)
    before = problem.value(x)
    most(after, before - along**2 / (2 * problem.lipschitz * squared), scale=before)
    ones = bounds.ones_norm(n, gamma)
    most(after, before - squared_norm(gradient, gamma) / (2 * problem.lipschitz * ones), scale=before)


@quick
@given(vectors, gammas, st.floats(0.1, 10))
def test_the_alpha_of_the_proofs_is_the_best_one(values, gamma, lipschitz):
    """It minimises the right side of (7), -alpha g . sigma + L/2 alpha^2 |sigma|^2."""
    g = tensor(values)
    _, along, squared = parts(g, gamma)
    best = alpha_of(g, lipschitz, gamma)

    def right(alpha):
        return -alpha * along + lipschitz / 2 * alpha**2 * squared

    for factor in (0, 0.5, 0.9, 1.1, 2):
        most(right(best), right(factor * best), scale=abs(float(right(best))))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_gap_alpha_is_0_over_0_where_the_gradient_vanishes_not_only_at_the_minimum(gamma):
    """A.1 says alpha_t > 0 "if x_t != x*". Counter-example: cosines has other critical points, x_t != x*."""
    ridge = problems.Cosines(*(tensor([value]) for value in (1.0, 1.0, 0.1)))
    low, high = tensor([2.9]), tensor([3.6])  # between them f' changes its sign from + to -: a local maximum
    assert ridge.gradient(low) > 0 > ridge.gradient(high)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if ridge.gradient(middle) > 0 else (low, middle)
    assert abs(float(ridge.gradient(low))) < 1e-14 and float(ridge.value(low)) > 2
    # At the point itself alpha := 0 keeps the theorem: both sides of (8) are f(x_t).
    zero = torch.zeros(1, 3, dtype=F64)
    x, norms = iterate(torch.zeros_like, zero, lipschitz=1.0, gamma=gamma, beta=0.9, steps=5)
    assert torch.equal(x, zero) and not norms.any()


# A.2


@quick
@given(names, dimensions, seeds, gammas, eps)
def test_9_and_10_hold_for_every_single_sample(name, n, seed, gamma, epsilon):
    """So it does not matter that alpha_t depends on the same sample as g_t: no expectation is split."""
    problem = problems.MAKERS[name](n, draw(seed))
    x = problem.start(1, draw(seed + 1))[0]
    gradient = problem.gradient(x)
    g = gradient + float(gradient.norm()) * normal(seed + 2, n)
    powered, along, squared = parts(g, gamma)
    alpha = alpha_of(g, problem.lipschitz, gamma)
    before, after = problem.value(x), problem.value(x - alpha * powered)
    error = g - gradient
    quotient = along**2 / squared
    twice = 2 * problem.lipschitz
    cross = alpha * (error * powered).sum()
    most(after, before - quotient / twice + cross, scale=before)  # (9)
    young = (epsilon * quotient + error.square().sum() / epsilon) / twice
    most(cross, along.abs() / (problem.lipschitz * squared.sqrt()) * error.norm())
    most(cross, young)
    reduced = before - (1 - epsilon) / twice * quotient + error.square().sum() / (twice * epsilon)
    most(after, reduced, scale=before)  # (10)
    ones = bounds.ones_norm(n, gamma)
    last = before - (1 - epsilon) / (twice * ones) * squared_norm(g, gamma) + error.square().sum() / (twice * epsilon)
    most(after, last, scale=before)


def test_expectations_may_not_be_split():
    """What the proof rightly avoids: E[alpha_t sigma(g_t)] is not a multiple of sigma(grad f), even if unbiased."""
    gradient, gamma = tensor([1.0, 1.0]), 0.0
    samples = torch.stack([gradient + tensor([9.0, 0.0]), gradient - tensor([1.0, 0.0])])
    weights = tensor([0.1, 0.9])
    torch.testing.assert_close(weights @ samples, gradient)  # unbiased
    mean = sum(w * alpha_of(g, 1.0, gamma) * powerball(g, gamma) for w, g in zip(weights, samples, strict=True))
    assert float((mean - powerball(gradient, gamma) * mean.mean()).abs().max()) > 0.1


# B.1 and B.2: one trajectory with any errors, all of its inequalities


class Trajectory:
    """x_t, v_t, z_t, g_t, alpha_t (t = 1 ... T) of equation (4) on a problem, with errors of relative size `noise`."""

    def __init__(self, problem, x, gamma, beta, steps, seed, noise):
        generator = draw(seed)
        self.problem, self.gamma, self.beta = problem, gamma, beta
        v = torch.zeros_like(x)
        self.steps = []
        for _ in range(steps):
            true = problem.gradient(x)
            error = torch.randn(x.shape, generator=generator, dtype=F64)
            g = true + noise * true.norm() * error / math.sqrt(len(x))
            alpha = alpha_of(g, problem.lipschitz, gamma, beta)
            self.steps.append((x, v, g, alpha))
            v = beta * v - alpha * powerball(g, gamma)
            x = x + v
        self.steps.append((x, v, None, None))

    def z(self, t):
        x, v, *_ = self.steps[t]
        return x + self.beta / (1 - self.beta) * v


trajectories = given(names, dimensions, seeds, gammas, betas, st.integers(1, 12), st.sampled_from([0.0, 0.3, 3.0]))


def trajectory(name, n, seed, gamma, beta, steps, noise):
    problem = problems.MAKERS[name](n, draw(seed))
    return Trajectory(problem, problem.start(1, draw(seed + 1))[0], gamma, beta, steps, seed + 2, noise)


@quick
@trajectories
def test_11_12_and_16_the_averaged_sequence(name, n, seed, gamma, beta, steps, noise):
    """z_{t+1} = z_t - alpha_t / (1 - beta) sigma(g_t), and z_1 = x_1 because v_1 = 0."""
    path = trajectory(name, n, seed, gamma, beta, steps, noise)
    assert torch.equal(path.z(0), path.steps[0][0])
    for t, (_, _, g, alpha) in enumerate(path.steps[:-1]):
        expected = path.z(t) - alpha / (1 - beta) * powerball(g, gamma)
        scale = 1 + float(path.z(t).abs().max()) + float(path.steps[t][1].abs().max()) / (1 - beta)
        torch.testing.assert_close(path.z(t + 1), expected, rtol=1e-10, atol=1e-12 * scale)


@quick
@given(st.lists(vectors.filter(lambda v: len(v) >= 3), min_size=1, max_size=10), betas)
def test_lemma_b_1_and_20_for_any_sequence(pushes, beta):
    """With v_1 = 0 and v_{t+1} = beta v_t - d_t: sum |v_t|^2 <= sum |d_t|^2 / (1 - beta)^2, whatever d_t is.

    Also its induction, v_t = -sum_{i<t} beta^(t-i-1) d_i; even the sum over t <= T - 1 is enough on the right.
    """
    d = [tensor(push[:3]) for push in pushes]
    v = [torch.zeros(3, dtype=F64)]
    for push in d:
        v.append(beta * v[-1] - push)
    for t in range(len(v)):
        explicit = -sum((beta ** (t - i - 1) * d[i] for i in range(t)), torch.zeros(3, dtype=F64))
        torch.testing.assert_close(v[t], explicit, rtol=1e-9, atol=1e-6)
    squares = [float(push.square().sum()) for push in d]
    left = sum(float(part.square().sum()) for part in v[: len(d)])
    most(left, sum(squares[:-1]) / (1 - beta) ** 2)


def test_slip_in_the_induction_of_lemma_b_1():
    """Its line has v_{t+1} = beta v_t - beta alpha_t sigma(...); with that extra beta the formula fails at t = 2."""
    beta, d = 0.5, tensor([1.0])
    v_2 = beta * torch.zeros(1, dtype=F64) - d
    assert torch.equal(v_2, -d)  # v_2 = -alpha_1 sigma(...), as the lemma says, and not -beta alpha_1 sigma(...)
    assert not torch.equal(v_2, -beta * d)


@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_gap_v_1_must_be_zero(beta):
    """B.1 states v_0 = 0, counts from t = 1 and needs v_1 = 0; algorithm 2 takes any v_1. With v_1 != 0 it fails.

    f(x) = x^2 / 2 from x_1 = x* = 0 with v_1 = 1: the right side of theorem B.1 is 0, the left is not; and lemma B.1
    fails at T = 1, where its right side is 0.
    """
    x, v, total = 0.0, 1.0, 0.0
    alpha = (1 - beta) ** 2 / (1 + beta)
    assert v**2 > 1 / (1 - beta) ** 2 * (alpha * x) ** 2
    for _ in range(3):
        total += x**2
        v = beta * v - alpha * x
        x = x + v
    assert total > 0 == bounds.theorem_b_1(0.0, lipschitz=1, n=1, steps=3, gamma=1, beta=beta)


@quick
@trajectories
def test_13_to_15_and_17_to_21_on_every_step(name, n, seed, gamma, beta, steps, noise):
    """(13)-(15) are (17)-(19) without noise. Any eps, eps_1 > 0, of the right units."""
    path = trajectory(name, n, seed, gamma, beta, steps, noise)
    f, L, one = path.problem, path.problem.lipschitz, 1 - beta
    for t, (x, v, g, alpha) in enumerate(path.steps[:-1]):
        z, after, true = path.z(t), path.z(t + 1), f.gradient(x)
        powered, along, squared = parts(g, gamma)
        scale = f.value(z)
        drift = f.gradient(z) - true
        error = g - true
        # (17): the descent lemma at z, then g_t for grad f(z_t); the second form is the same number.
        first = f.value(z) - alpha / one * (f.gradient(z) * powered).sum() + L / 2 * (alpha / one) ** 2 * squared
        second = f.value(z) - alpha / one * along - alpha / one * (drift * powered).sum()
        second = second + alpha / one * (error * powered).sum() + L / 2 * (alpha / one) ** 2 * squared
        most(f.value(after), first, scale=scale)
        assert float(first) == pytest.approx(float(second), rel=1e-7, abs=1e-9 * (1 + float(scale)))
        for e in (0.1 / L, 1 / L, 10 / L):  # (18) = (14)
            right = (e * drift.square().sum() + alpha**2 * squared / e) / (2 * one)
            most(-alpha / one * (drift * powered).sum(), right)
        most(drift.square().sum(), (L * beta / one) ** 2 * v.square().sum(), scale=true.square().sum())  # (19) = (15)
        for e in (0.05, 0.5, 0.95):  # (21)
            right = one / (L * e * (1 + beta)) * error.square().sum()
            right = (right + L * e * (1 + beta) / one**3 * alpha**2 * squared) / 2
            most(alpha / one * (error * powered).sum(), right)


@quick
@trajectories
def test_telescoped_sums_of_b_1_and_b_2(name, n, seed, gamma, beta, steps, noise):
    """The sums over (13) and (17), with the printed eps_1 (at beta = 0 its term is 0 and eps_1 is not needed)."""
    path = trajectory(name, n, seed, gamma, beta, steps, noise)
    f, L, one, epsilon = path.problem, path.problem.lipschitz, 1 - beta, 0.4
    rows = [(*parts(g, gamma)[1:], alpha, g - f.gradient(x)) for x, _, g, alpha in path.steps[:-1]]
    along = sum(float(alpha * a) for a, _, alpha, _ in rows)
    pushed = sum(float(alpha**2 * s) for _, s, alpha, _ in rows)
    errors = sum(float(e.square().sum()) for *_, e in rows)
    quotients = sum(float(a**2 / s) for a, s, *_ in rows if s > 0)
    left = f.f_star - float(f.value(path.z(0)))
    scale = float(f.value(path.z(0)))
    drifting = 0.0
    if beta > 0:
        e1 = one**2 / (L * beta)
        drifting = e1 * (L * beta) ** 2 / one**5 + 1 / (e1 * one)
        assert drifting == pytest.approx(2 * L * beta / one**3)  # what that eps_1 leaves
    coefficient = (drifting + L / one**2 + L * epsilon * (1 + beta) / one**3) / 2
    assert coefficient == pytest.approx(L * (1 + beta) * (1 + epsilon) / (2 * one**3))
    noise_term = one / (2 * L * epsilon * (1 + beta)) * errors
    most(left, -along / one + coefficient * pushed + noise_term, scale)
    right = -one * (1 - epsilon) / (2 * L * (1 + beta)) * quotients + noise_term
    most(left, right, scale)
    if noise == 0:  # B.1's own last line, without eps
        most(left, -one / (2 * L * (1 + beta)) * quotients, scale)


@given(st.floats(0.01, 0.97), st.floats(0.1, 10), st.floats(0.1, 10))
def test_the_printed_eps_minimises_and_does_not_exist_at_beta_0(beta, lipschitz, factor):
    """eps = (1 - beta)^2 / (L beta) minimises eps L^2 beta^2 / (1 - beta)^5 + 1 / (eps (1 - beta)).

    At beta = 0 it is 1 / 0. The bound is still right there: z_t = x_t, so what eps estimates is 0.
    """

    def value(e):
        return e * (lipschitz * beta) ** 2 / (1 - beta) ** 5 + 1 / (e * (1 - beta))

    best = (1 - beta) ** 2 / (lipschitz * beta)
    assert value(best) <= value(best * factor) * (1 + 1e-12)
    with pytest.raises(ZeroDivisionError):
        (1 - 0) ** 2 / (lipschitz * 0)


# The theorems as they come out of the proofs: for every sequence of errors


@quick
@trajectories
def test_the_theorems_hold_for_every_path(name, n, seed, gamma, beta, steps, noise):
    """With sum |e_t|^2 in the place of sigma^2, for every single path: the expectation is only taken at the end.

    Neither independence nor unbiasedness is used, only E|e_t|^2 <= sigma^2 / T.
    """
    path = trajectory(name, n, seed, gamma, beta, steps, noise)
    f = path.problem
    errors = sum(float((g - f.gradient(x)).square().sum()) for x, _, g, _ in path.steps[:-1])
    left = sum(float(squared_norm(g, gamma)) for _, _, g, _ in path.steps[:-1]) / steps
    gap = float(f.value(path.steps[0][0])) - f.f_star
    right = bounds.bound(gap, lipschitz=f.lipschitz, n=n, steps=steps, gamma=gamma, beta=beta, sigma=math.sqrt(errors))
    most(left, right)


@quick
@given(st.floats(0, 1e3), st.floats(0.1, 10), st.integers(2, 1000), gammas, betas, st.floats(1e-3, 1e3), eps)
def test_the_last_lines_of_the_proofs_are_the_statements(gap, lipschitz, n, gamma, beta, sigma, epsilon):
    """The factor L of the theorem is not missing: it is inside the bracket there and outside in the proof."""
    steps, ones = 7, bounds.ones_norm(n, gamma)
    last_a2 = 2 * lipschitz * ones / (steps * (1 - epsilon)) * gap + ones / (steps * epsilon * (1 - epsilon)) * sigma**2
    stated = bounds.theorem_3_1(gap, lipschitz=lipschitz, n=n, steps=steps, gamma=gamma, sigma=sigma, eps=epsilon)
    assert stated == pytest.approx(last_a2, rel=1e-12)
    # B.2's last line: -gap <= -(1-b)(1-eps) / (2 L ones (1+b)) S + sigma^2 (1-b) / (2 L eps (1+b)), solved for S / T.
    noise = sigma**2 * (1 - beta) / (2 * lipschitz * epsilon * (1 + beta))
    total = (gap + noise) * 2 * lipschitz * ones * (1 + beta) / ((1 - beta) * (1 - epsilon))
    stated = bounds.theorem_3_2(gap, lipschitz=lipschitz, n=n, steps=steps, gamma=gamma, beta=beta, sigma=sigma,
                                eps=epsilon)  # fmt: skip
    assert stated == pytest.approx(total / steps, rel=1e-9)


@quick
@given(names, dimensions, seeds, gammas, st.integers(1, 12))
def test_gradient_descent_satisfies_a_1_for_every_gamma(name, n, seed, gamma, steps):
    """By its own bound and ||x||^2_{1+gamma} <= ||1||_p |x|^2: the theorem does not tell the two methods apart."""
    problem = problems.MAKERS[name](n, draw(seed))
    x = problem.start(1, draw(seed + 1))
    seen = []
    iterate(problem.gradient, x, lipschitz=problem.lipschitz, gamma=1, beta=0, steps=steps,
            watch=lambda t, at, g: seen.append(float(squared_norm(g, gamma))))  # fmt: skip
    gap = float(problem.value(x)) - problem.f_star
    most(sum(seen) / steps, bounds.theorem_a_1(gap, lipschitz=problem.lipschitz, n=n, steps=steps, gamma=gamma))


# B.3


@quick
@given(vectors, gammas)
def test_norm_equivalence_with_its_constants(values, gamma):
    """C = 1 and D = ||1||_p: |x|_2^2 <= ||x||^2_{1+gamma} <= n^((1-gamma)/(1+gamma)) |x|_2^2, both attained."""
    x = tensor(values)
    square, norm = x.square().sum(), squared_norm(x, gamma)
    ones = bounds.ones_norm(len(x), gamma)
    most(square, norm * (1 + 1e-9))
    most(norm, ones * square * (1 + 1e-9))
    unit, flat = torch.eye(len(x), dtype=F64)[0], torch.ones(len(x), dtype=F64)
    assert float(squared_norm(unit, gamma)) == pytest.approx(1)
    assert float(squared_norm(flat, gamma)) == pytest.approx(ones * len(x))


@quick
@given(dimensions, seeds, gammas, st.integers(2, 6))
def test_b_3_needs_no_constant(n, seed, gamma, outcomes):
    """Jensen: the square of a norm is convex, so ||E g||^2 <= E||g||^2; B.3 has the factor D / C = ||1||_p there."""
    g = normal(seed, outcomes, n)
    weights = torch.rand(outcomes, generator=draw(seed + 1), dtype=F64)
    weights /= weights.sum()
    expected, mean = weights @ squared_norm(g, gamma), squared_norm(weights @ g, gamma)
    most(mean, expected)
    most(mean, bounds.ones_norm(n, gamma) * expected)  # B.3's own line, weaker by n^((1-gamma)/(1+gamma))


@quick
@given(dimensions, seeds, gammas)
def test_b_3_upwards_only_with_the_noise(n, seed, gamma):
    """E||g||^2 <= D (|grad f|^2 + sigma^2), and without the noise term no constant will do (grad f = 0)."""
    errors = normal(seed, 5, n)
    errors -= errors.mean(0)
    true = normal(seed + 1, n)
    variance = errors.square().sum(1).mean()
    expected = squared_norm(true + errors, gamma).mean()
    most(expected, bounds.ones_norm(n, gamma) * (true.square().sum() + variance))
    assert squared_norm(errors, gamma).mean() > 0 == squared_norm(torch.zeros(n, dtype=F64), gamma)


def test_b_3_needs_the_unbiasedness_that_the_theorems_do_not():
    """An oracle that always answers 0 has E|e|^2 = |grad f|^2; its left side is 0 and says nothing about grad f."""
    problem = problems.Quadratic(tensor([1.0, 1.0]))
    x = tensor([[3.0, 4.0]])
    end, norms = iterate(torch.zeros_like, x, lipschitz=1.0, gamma=0.5, beta=0.0, steps=4)
    assert not norms.any() and torch.equal(end, x)
    assert float(squared_norm(problem.gradient(end), 0.5)) > 0
