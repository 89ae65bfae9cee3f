"""Every cell of the grid, measured and compared with the bound of its theorem."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.statistics import t_interval
from data.tensors import generator

from . import bounds, oracle, problems
from .iteration import iterate
from .settings import Theory


@dataclass(frozen=True)
class Task:
    """Cells that one process computes together: all horizons and betas for a problem, a gamma and an oracle."""

    problem: str
    n: int
    gamma: float
    oracle: str  # exact, direct, calls, rows
    horizons: tuple[int, ...]
    betas: tuple[float, ...]

    def cost(self) -> float:
        """Roughly the number of elements iterated over, so that the longest task can be started first."""
        calls = {"calls": sum(t * t for t in self.horizons), "exact": max(self.horizons)}
        return self.n * calls.get(self.oracle, sum(self.horizons)) * len(self.betas)


def tasks(settings: Theory) -> list[Task]:
    """The grid of the settings, the longest task first."""
    kinds = [("exact", settings.problems, settings.horizons), ("direct", settings.problems, settings.horizons)]
    kinds += [(kind, getattr(settings.realised, kind), settings.realised.horizons) for kind in ("calls", "rows")]
    found = [
        Task(problem, n, gamma, kind, tuple(horizons), tuple(settings.betas))
        for kind, chosen, horizons in kinds
        for problem, dimensions in chosen.items()
        for n in dimensions
        for gamma in settings.gammas
    ]
    return sorted(found, key=lambda task: -task.cost())


def make_problem(settings: Theory, name: str, n: int):
    """A problem and its starting points [repetitions, n], the same for all gamma, beta and T."""
    problem = problems.MAKERS[name](n, generator(settings.seed, "problem", name, n))
    return problem, problem.start(settings.repetitions, generator(settings.seed, "start", name, n))


def natural_sigma(settings: Theory, problem, x: Tensor) -> float:
    """sigma for the settings' `noise`: sigma^2 = noise^2 * 2 L (f(x) - f*), at x [n]."""
    return settings.noise * math.sqrt(2 * problem.lipschitz * float(problem.value(x) - problem.f_star))


def measure(task: Task, settings: Theory) -> list[dict]:
    """The rows of a task: one for each horizon and beta."""
    problem, starts = make_problem(settings, task.problem, task.n)
    return (
        _exact(task, settings, problem, starts) if task.oracle == "exact" else _noisy(task, settings, problem, starts)
    )


def _exact(task: Task, settings: Theory, problem, starts: Tensor) -> list[dict]:
    """Theorems A.1 and B.1, which hold for every single starting point."""
    rows = []
    gaps = (problem.value(starts) - problem.f_star).tolist()
    for beta in task.betas:
        # The first T steps of a longer run are the run of T steps.
        _, norms = iterate(problem.gradient, starts, lipschitz=problem.lipschitz, gamma=task.gamma, beta=beta,
                           steps=max(task.horizons))  # fmt: skip
        for horizon in task.horizons:
            left = norms[:horizon].mean(0)
            right = torch.tensor([_bound(problem, gap, task, beta, horizon) for gap in gaps], dtype=left.dtype)
            worst = float((left / right).max())
            rows.append(_row(task, settings, beta, horizon, 0.0, left, float(right.mean()), worst))
    return rows


def _noisy(task: Task, settings: Theory, problem, starts: Tensor) -> list[dict]:
    """Theorems 3.1 and 3.2, which are about the mean over the noise, from one starting point."""
    rows = []
    x = starts[0]
    source = oracle.make(task.oracle, problem, natural_sigma(settings, problem, x))
    gap = float(problem.value(x) - problem.f_star)
    for beta in task.betas:
        for horizon in task.horizons:
            # The same noise for every gamma and beta.
            noise = generator(settings.seed, "noise", task.problem, task.n, horizon, task.oracle)
            _, norms = iterate(lambda at, batch=horizon, noise=noise: source(at, batch, noise),
                               x.expand(settings.repetitions, -1), lipschitz=problem.lipschitz, gamma=task.gamma,
                               beta=beta, steps=horizon)  # fmt: skip
            right = _bound(problem, gap, task, beta, horizon, source.sigma)
            rows.append(_row(task, settings, beta, horizon, source.sigma, norms.mean(0), right, None))
    return rows


def _bound(problem, gap: float, task: Task, beta: float, horizon: int, sigma: float = 0.0) -> float:
    return bounds.bound(gap, lipschitz=problem.lipschitz, n=task.n, steps=horizon, gamma=task.gamma, beta=beta,
                        sigma=sigma)  # fmt: skip


def _row(task: Task, settings: Theory, beta: float, horizon: int, sigma: float, left: Tensor, right: float,
         worst: float | None) -> dict:  # fmt: skip
    mean, low, high = t_interval(left.tolist(), settings.thresholds.level)
    if worst is None:
        worst, allowed = high / right, 1.0
    else:
        allowed = 1 + settings.thresholds.rounding
    return {
        "theorem": bounds.theorem(task.oracle != "exact", beta),
        "problem": task.problem,
        "oracle": task.oracle,
        "n": task.n,
        "T": horizon,
        "gamma": float(task.gamma),
        "beta": float(beta),
        "sigma": sigma,
        "repetitions": len(left),
        "measured": mean,
        "measured_low": low,
        "measured_high": high,
        "bound": right,
        "ratio": mean / right,
        "worst": worst,
        "holds": worst <= allowed,
    }


def slope(values: dict[float, float]) -> float:
    """The least-squares slope of log(value) over log(key)."""
    x = torch.log(torch.tensor(list(values), dtype=torch.float64))
    y = torch.log(torch.tensor(list(values.values()), dtype=torch.float64))
    x = x - x.mean()
    return float((x * y).sum() / (x * x).sum())
