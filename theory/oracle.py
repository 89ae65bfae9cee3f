"""Stochastic gradient oracles with a known variance: assumption 3.2, and the mini-batches of A.2.

`oracle(x [r, n], batch, generator)` returns the average of `batch` calls at each of r points, [r, n]. Its `sigma` is
the square root of sigma-hat^2, an upper bound of E|g(x, xi) - grad f(x)|^2 for every x.
"""

import math

import torch
from torch import Tensor

from .problems import RobustRegression


class Exact:
    """The gradient itself, sigma-hat = 0."""

    sigma = 0.0

    def __init__(self, problem):
        self.problem = problem

    def __call__(self, x: Tensor, batch: int, generator: torch.Generator) -> Tensor:
        return self.problem.gradient(x)


class Direct:
    """grad f(x) + a normal vector of total variance sigma^2 / batch, in one draw.

    One call has independent normal errors of variance sigma^2 / n in every coordinate, so E|error|^2 = sigma^2
    exactly. The mean of `batch` such calls is again normal, with variance sigma^2 / (n batch), so drawing it in one go
    gives not only the variance of A.2 but the same distribution as averaging the calls.
    """

    def __init__(self, problem, sigma: float):
        self.problem, self.sigma = problem, sigma

    def __call__(self, x: Tensor, batch: int, generator: torch.Generator) -> Tensor:
        # Single precision suffices for noise and is drawn six times faster; the sum is double.
        noise = torch.randn(x.shape, generator=generator)
        return self.problem.gradient(x).add_(noise, alpha=self.sigma / math.sqrt(batch * x.shape[-1]))


class Calls:
    """The same oracle, called `batch` times and averaged, as in section 3."""

    def __init__(self, problem, sigma: float):
        self.problem, self.sigma = problem, sigma

    def __call__(self, x: Tensor, batch: int, generator: torch.Generator) -> Tensor:
        gradient = self.problem.gradient(x)
        total = torch.zeros_like(gradient)
        for _ in range(batch):
            noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            total += gradient + noise * (self.sigma / math.sqrt(x.shape[-1]))
        return total / batch


class Rows:
    """A mini-batch of `batch` rows of a robust regression, drawn with replacement; its variance bound is proved there.

    The errors depend on x and have neither a fixed distribution nor symmetry: only mean and variance are as assumed.
    """

    def __init__(self, problem: RobustRegression):
        self.problem, self.sigma = problem, math.sqrt(problem.row_variance)

    def __call__(self, x: Tensor, batch: int, generator: torch.Generator) -> Tensor:
        count = len(self.problem.rows)
        drawn = torch.randint(count, (len(x), batch), generator=generator)
        weights = torch.zeros(len(x), count, dtype=x.dtype)
        weights.scatter_add_(1, drawn, torch.full(drawn.shape, 1 / batch, dtype=x.dtype))
        return self.problem.gradient(x, weights)


KINDS = ("direct", "calls", "rows")


def make(kind: str, problem, sigma: float):
    """The oracle `kind`; `rows` brings its own sigma and needs a robust regression."""
    if kind == "rows":
        return Rows(problem)
    return {"direct": Direct, "calls": Calls}[kind](problem, sigma)
