"""PowerGD, PowerGDM, PowerSGD and PowerSGDM with the proofs' step size, many repetitions at once.

The same iteration as optimizers.theorem.TheoremPowerSGD, which handles one vector at a time; a test compares the two
step by step.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from optimizers import powerball


def step_size(along: Tensor, squared: Tensor, lipschitz: float, beta: float = 0.0) -> Tensor:
    """alpha_t = g . sigma(g) / (L |sigma(g)|^2) * (1 - beta)^2 / (1 + beta), from g . sigma(g) and |sigma(g)|^2.

    0 where g = 0; with this choice the proofs also hold for such a step.
    """
    return torch.where(squared == 0, 0.0, along / squared) * ((1 - beta) ** 2 / (1 + beta) / lipschitz)


def squared_norm(g: Tensor, gamma: float) -> Tensor:
    """||g||^2_{1+gamma} of the last axis, which is (g . sigma(g))^(2 / (1 + gamma))."""
    return torch.linalg.vecdot(g, powerball(g, gamma)) ** (2 / (1 + gamma))


def iterate(
    gradient: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    lipschitz: float,
    gamma: float,
    beta: float,
    steps: int,
    constant: float | None = None,
    watch: Callable[[int, Tensor, Tensor], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """`steps` steps of equation (4) from x [r, n] and v_1 = 0.

    gradient: the oracle, called once per step with x_t. constant: a step size to use instead of the proofs'.
    watch: called with t (from 1), x_t and g_t. Returns x_{T+1} and ||g_t||^2_{1+gamma}, [T, r].
    """
    x = x.clone()
    v = torch.zeros_like(x)
    norms = torch.empty(steps, len(x), dtype=x.dtype)
    for t in range(steps):
        g = gradient(x)
        if watch is not None:
            watch(t + 1, x, g)
        powered = powerball(g, gamma)
        along = torch.linalg.vecdot(g, powered)
        norms[t] = along ** (2 / (1 + gamma))
        if constant is None:
            alpha = step_size(along, torch.linalg.vecdot(powered, powered), lipschitz, beta)[:, None]
        else:
            alpha = constant
        if beta == 0:
            x.sub_(powered * alpha)
        else:
            v.mul_(beta).sub_(powered * alpha)
            x.add_(v)
    return x, norms
