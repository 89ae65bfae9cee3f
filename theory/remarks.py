"""The testable statements in the paper's remarks: numbers, each with the limit that the remark implies.

A row's `holds` means measured <= limit. What that says about the paper's statement is up to verdicts.py.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from analysis.statistics import t_interval
from data.tensors import generator

from . import bounds, oracle
from .experiment import make_problem, natural_sigma, slope
from .iteration import iterate, squared_norm
from .problems import F64, MAKERS, Quadratic
from .settings import Theory

DIMENSION = 100  # of the measured remarks


def everything(settings: Theory) -> list[dict]:
    """All remarks that do not need the grid's rows."""
    return [row for part in (limits, sgd, sgdm, attained, variance, batches, true_gradient)
            for row in part(settings)]  # fmt: skip


def limits(settings: Theory) -> list[dict]:
    """Remarks 3.2, 3.4 and B.1: limits of one bound are another one. The largest relative difference over all cases."""
    tiny = 1e-9
    differences: dict[tuple[str, str], list[float]] = {}
    for n in (2, 10_000):
        for gamma in settings.gammas:
            for beta in settings.betas:
                f = {"lipschitz": 3.0, "n": n, "steps": 10, "gamma": gamma}
                a1, b1 = bounds.theorem_a_1(2.0, **f), bounds.theorem_b_1(2.0, **f, beta=beta)
                t31 = bounds.theorem_3_1(2.0, **f, sigma=0, eps=tiny)
                t32 = bounds.theorem_3_2(2.0, **f, sigma=0, eps=tiny, beta=beta)
                noisy = bounds.theorem_3_1(2.0, **f, sigma=1.5, eps=0.3)
                same = bounds.theorem_3_2(2.0, **f, sigma=1.5, eps=0.3, beta=0)
                vanishing = bounds.bound(2.0, **f, sigma=tiny, beta=beta)
                for key, one, other in (
                    (("3.2", "3.1 at sigma = 0, eps = 1e-9, against A.1"), t31, a1),
                    (("B.1", "3.2 at sigma = 0, eps = 1e-9, against B.1"), t32, b1),
                    (("3.2", "3.2 at sigma = 1e-9, best eps, against B.1"), vanishing, b1),
                    (("3.4", "3.2 at beta = 0 against 3.1"), same, noisy),
                ):
                    differences.setdefault(key, []).append(abs(one / other - 1))
    return [_row(remark, case, max(values), 1e-8) for (remark, case), values in differences.items()]


def sgd(settings: Theory) -> list[dict]:
    """Contribution 2 and remark 3.3: at gamma = 1, the best bound of 3.1 over the textbook's for the same average.

    The ratio is 1 + 2 sqrt(1 + a) / (2 + a) with a = 2 L gap / sigma^2: above 1, and 2 where gap = 0.
    """
    rows = []
    for noise in (0, 0.01, 0.1, 1, 10, 100):
        ours = bounds.bound(1.0, lipschitz=0.5, n=DIMENSION, steps=100, gamma=1, sigma=noise)
        textbook = bounds.textbook_sgd(1.0, lipschitz=0.5, steps=100, sigma=noise)
        case = f"bound of 3.1 / textbook's, sigma^2 = {noise**2:g} * 2 L gap"
        rows.append(_row("3.3 SGD", case, ours / textbook, 1.0, gamma=1, beta=0))
    return rows


def sgdm(settings: Theory) -> list[dict]:
    """Remark 3.4: at gamma = 1, the best bound of 3.2 over what its own proof gives if it also uses unbiasedness.

    Without noise the ratio is 1; with noise it is above 1, and 4 (1 + beta) / (2 + beta) where gap = 0.
    """
    rows = []
    for beta in (beta for beta in settings.betas if beta > 0):
        for noise in (0, 0.01, 0.1, 1, 10, 100):
            ours = bounds.bound(1.0, lipschitz=0.5, n=DIMENSION, steps=100, gamma=1, beta=beta, sigma=noise)
            other = bounds.unbiased_sgdm(1.0, lipschitz=0.5, steps=100, beta=beta, sigma=noise)
            case = f"bound of 3.2 / the same proof's with unbiasedness, sigma^2 = {noise**2:g} * 2 L gap"
            rows.append(_row("3.4 SGDM", case, ours / other, 1.0, gamma=1, beta=beta))
    return rows


def attained(settings: Theory) -> list[dict]:
    """How sharp A.1 is: it is attained, for every gamma, n and T."""
    rows = []
    for gamma in settings.gammas:
        for n in (2, 10_000):
            sphere = Quadratic(torch.full((n,), 3.0))
            start = torch.full((1, n), 0.7, dtype=F64)
            _, norms = iterate(sphere.gradient, start, lipschitz=3.0, gamma=gamma, beta=0, steps=10)
            right = bounds.bound(float(sphere.value(start)), lipschitz=3.0, n=n, steps=10, gamma=gamma)
            short = 1 - float(norms.mean()) / right
            rows.append(_row("sharp A.1", "1 - measured / bound on 3/2 |x|^2 from x_1 = (0.7, ...)", short, 1e-12,
                             n=n, T=10, gamma=gamma, beta=0))  # fmt: skip
    return rows


def variance(settings: Theory) -> list[dict]:
    """A.2: batch * E|mean of `batch` calls - grad f|^2 / sigma^2 is 1 (at most 1 where sigma^2 is only a bound)."""
    rows = []
    samples = 10_000  # makes the interval about 1 %, well inside the tolerance
    for kind, name in (("direct", "cosines"), ("calls", "cosines"), ("rows", "robust")):
        problem, starts = make_problem(settings, name, 10)
        source = oracle.make(kind, problem, 1.5)
        x = starts[:1].expand(samples, -1)
        # Of the rows the true variance at this x is known.
        variance = _row_variance(problem, starts[0]) if kind == "rows" else source.sigma**2
        for batch in (1, 10, 100):
            noise = generator(settings.seed, "variance", kind, batch)
            errors = source(x, batch, noise) - problem.gradient(x)
            values = (batch * errors.square().sum(-1)).tolist()
            values = [value / variance for value in values]
            mean, low, high = t_interval(values, settings.thresholds.level)
            rows.append(_row("A.2", f"{kind}: batch {batch} * variance / sigma^2", mean,
                             1 + settings.thresholds.variance, low=low, high=high, problem=name, n=10))  # fmt: skip
        if kind == "rows":
            rows.append(_row("A.2", "rows: true variance at x_1 / its proved bound", variance / source.sigma**2, 1.0,
                             problem=name, n=10))  # fmt: skip
    return rows


def _row_variance(problem, x: Tensor) -> float:
    each = problem.gradient(x, torch.eye(len(problem.rows), dtype=F64))
    return float((each - each.mean(0)).square().sum(-1).mean())


def batches(settings: Theory) -> list[dict]:
    """Remark 3.4: a large batch is needed. Runs with B_t = 1, sqrt(T) and T, compared with the bound for B_t = T.

    Measured are the theorem's left side, and the same average of the true gradient.
    """
    rows = []
    for name in ("quadratic", "cosines"):
        for gamma in settings.gammas:
            for steps in settings.horizons:
                for label, batch in (("1", 1), ("sqrt(T)", math.isqrt(steps)), ("T", steps)):
                    run = _run(settings, name, gamma, steps, batch)
                    for side, values in (("g_t", run.left), ("grad f(x_t)", run.true)):
                        mean, low, high = t_interval(values.tolist(), settings.thresholds.level)
                        rows.append(_row("3.4 batch", f"B_t = {label}: mean |{side}|^2 against 3.1", mean, run.bound,
                                         low=low, high=high, problem=name, n=DIMENSION, T=steps, gamma=gamma,
                                         beta=0))  # fmt: skip
    return rows


class Run(NamedTuple):
    """Averages over t for each repetition, and the bound of 3.1."""

    left: Tensor  # |g_t|^2 in the norm of the theorem
    true: Tensor  # |grad f(x_t)|^2 in the same norm
    euclidean: Tensor  # |grad f(x_t)|_2^2
    bound: float  # the right side of 3.1
    variance: float  # of g_t, sigma^2 / B_t


def _run(settings: Theory, name: str, gamma: float, steps: int, batch: int) -> Run:
    problem, starts = make_problem(settings, name, DIMENSION)
    sigma = natural_sigma(settings, problem, starts[0])
    source = oracle.Direct(problem, sigma)
    noise = generator(settings.seed, "batch", name, steps, batch)
    true, euclidean = torch.zeros(2, settings.repetitions, dtype=F64)

    def watch(t: int, x: Tensor, g: Tensor) -> None:
        gradient = problem.gradient(x)
        true.add_(squared_norm(gradient, gamma))
        euclidean.add_(gradient.square().sum(-1))

    _, norms = iterate(lambda x: source(x, batch, noise), starts[0].expand(settings.repetitions, -1),
                       lipschitz=problem.lipschitz, gamma=gamma, beta=0, steps=steps, watch=watch)  # fmt: skip
    gap = float(problem.value(starts[0]) - problem.f_star)
    right = bounds.bound(gap, lipschitz=problem.lipschitz, n=DIMENSION, steps=steps, gamma=gamma, sigma=sigma)
    return Run(norms.mean(0), true / steps, euclidean / steps, right, sigma**2 / batch)


def true_gradient(settings: Theory) -> list[dict]:
    """B.3, in both directions, with C = 1 and D = ||1||_p (docs/theory-notes.md).

    From stochastic to true, the factor D / C is not needed: Jensen's inequality gives 1. From true to stochastic, which
    the paper does not show: E||g||^2 <= D (|grad f|^2 + sigma^2 / T), and D sigma^2 / T is at most a quarter of the
    bound of 3.1, so the bound on either gives a bound on the other, a constant times as large.
    """
    rows = []
    steps, level = settings.steps.horizon, settings.thresholds.level
    for name in MAKERS:
        for gamma in settings.gammas:
            about = {"problem": name, "n": DIMENSION, "T": steps, "gamma": gamma, "beta": 0}
            run = _run(settings, name, gamma, steps, steps)
            most = bounds.ones_norm(DIMENSION, gamma)
            # Paired: the interval of the difference, shifted to the larger side.
            for remark, case, small, large, more in (
                ("B.3", "mean |grad f(x_t)|^2 against mean |g_t|^2, factor 1", run.true, run.left, 0.0),
                ("B.3 reverse", "mean |g_t|^2 against D (mean |grad f(x_t)|_2^2 + sigma^2 / T)", run.left,
                 most * run.euclidean, most * run.variance),
            ):  # fmt: skip
                mean, low, high = (float(large.mean()) + part for part in t_interval((small - large).tolist(), level))
                limit = float(large.mean()) + more * (1 + settings.thresholds.variance)  # at gamma = 1 both are equal
                rows.append(_row(remark, case, mean, limit, low=low, high=high, **about))
            rows.append(_row("B.3 reverse", "D sigma^2 / T against a quarter of the bound of 3.1", most * run.variance,
                             run.bound / 4, **about))  # fmt: skip
    return rows


def rates(settings: Theory, cells: list[dict]) -> list[dict]:
    """Remark 3.3, from the grid's rows: with exact gradients T * measured stays below one constant for all T.

    T * measured cannot fall as T grows, so the slope over T is never below -1; in the lowest dimension, where the
    sum has converged, it is close to -1.
    """
    rows = []
    exact = [cell for cell in cells if cell["theorem"] == "A.1"]
    for problem, n, gamma in sorted({(cell["problem"], cell["n"], cell["gamma"]) for cell in exact}):
        found = {c["T"]: c for c in exact if (c["problem"], c["n"], c["gamma"]) == (problem, n, gamma)}
        largest = max(T * cell["measured"] for T, cell in found.items())
        limit = min(T * cell["bound"] for T, cell in found.items())
        at = {"problem": problem, "n": n, "gamma": gamma, "beta": 0}
        rows.append(_row("3.3 rate", "largest T * measured over T, against T * bound", largest, limit, **at))
        last = sorted(found)[-2:]
        if len(last) == 2 and n == min(cell["n"] for cell in exact):
            fitted = slope({T: found[T]["measured"] for T in last})
            rows.append(_row("3.3 slope", f"slope of measured over T from {last[0]} to {last[1]}", fitted,
                             -1 + settings.thresholds.slope, **at))  # fmt: skip
    return rows


def _row(remark: str, case: str, measured: float, limit: float, *, low=None, high=None, problem="", n=None, T=None,
         gamma=None, beta=None) -> dict:  # fmt: skip
    """A row of remarks.csv; it holds if measured, or the whole interval if there is one, is at or below the limit."""
    return {
        "remark": remark,
        "case": case,
        "problem": problem,
        "n": n,
        "T": T,
        "gamma": None if gamma is None else float(gamma),
        "beta": None if beta is None else float(beta),
        "measured": measured,
        "low": low,
        "high": high,
        "limit": limit,
        "holds": (measured if high is None else high) <= limit,
    }
