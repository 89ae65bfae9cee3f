"""The proofs' step size against tuned constant ones, on the problems of the grid.

The constant is tuned on one set of starting points and noise; both rules are then measured on another.
"""

import math

import torch

from analysis.statistics import t_interval
from data.tensors import generator
from optimizers import powerball

from . import oracle
from .experiment import make_problem, natural_sigma
from .iteration import iterate, step_size
from .problems import MAKERS
from .settings import Theory


def cases(settings: Theory) -> list[tuple[str, float]]:
    return [(name, gamma) for name in MAKERS for gamma in settings.gammas]


def compare(name: str, gamma: float, settings: Theory) -> list[dict]:
    """A row for each beta and rule: mean over repetitions of (f(x_{T+1}) - f*) / (f(x_1) - f*), as in theorem 3.2."""
    problem, _ = make_problem(settings, name, settings.steps.dimension)
    points = {
        use: problem.start(settings.repetitions, generator(settings.seed, "steps", use, name))
        for use in ("tune", "report")
    }
    source = oracle.Direct(problem, natural_sigma(settings, problem, points["tune"][0]))
    first = _first_step(problem, points["tune"], gamma)

    def remaining(use: str, beta: float, constant: float | None) -> torch.Tensor:
        noise = generator(settings.seed, "steps noise", use, name)
        end, _ = iterate(lambda x: source(x, settings.steps.horizon, noise), points[use],
                         lipschitz=problem.lipschitz, gamma=gamma, beta=beta, steps=settings.steps.horizon,
                         constant=constant)  # fmt: skip
        return (problem.value(end) - problem.f_star) / (problem.value(points[use]) - problem.f_star)

    rows = []
    for beta in settings.steps.betas:
        tried = {m: float(remaining("tune", beta, m * first).mean()) for m in settings.steps.multiples}
        best = min(tried, key=lambda m: tried[m] if math.isfinite(tried[m]) else math.inf)
        edge = best in (min(tried), max(tried))
        for rule, multiple in (("adaptive", None), ("constant", best)):
            values = remaining("report", beta, None if multiple is None else multiple * first)
            mean, low, high = t_interval(values.tolist(), settings.thresholds.level)
            rows.append(
                {
                    "problem": name,
                    "n": settings.steps.dimension,
                    "T": settings.steps.horizon,
                    "gamma": float(gamma),
                    "beta": float(beta),
                    "rule": rule,
                    "step": None if multiple is None else multiple * first,
                    "multiple": multiple,
                    "at_edge": edge if multiple else None,
                    "remaining": mean,
                    "low": low,
                    "high": high,
                }
            )
    return rows


def _first_step(problem, x: torch.Tensor, gamma: float) -> float:
    """The mean over x of the proofs' alpha_1 at beta = 0 with exact gradients."""
    g = problem.gradient(x)
    powered = powerball(g, gamma)
    along, squared = (torch.linalg.vecdot(a, powered) for a in (g, powered))
    return float(step_size(along, squared, problem.lipschitz).mean())
