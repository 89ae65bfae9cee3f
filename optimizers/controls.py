"""Controls for PowerSGD: is it the power, or only a larger step? SGD along g, as long as sigma(g), and normalised SGD.

Both keep the direction of the gradient, which PowerSGD changes. Norms are over all parameters of all groups, as one
vector, and nothing is read back to the host.
"""

import torch
from torch import Tensor

from .powersgd import powerball


class _AlongGradient(torch.optim.Optimizer):
    """x -= lr * length(g) * g / ||g||, where a zero gradient gives a zero step."""

    def __init__(self, params, lr: float, **defaults):
        if lr < 0:
            raise ValueError(f"lr must be at least 0, not {lr}")
        if defaults.get("weight_decay", 0) < 0:
            raise ValueError(f"weight_decay must be at least 0, not {defaults['weight_decay']}")
        super().__init__(params, {"lr": lr} | defaults)

    def length(self, grads: list[Tensor]) -> Tensor | float:
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure=None):
        """One update; returns the closure's loss, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        held = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        grads = [p.grad.add(p, alpha=group["weight_decay"]) for group, p in held]
        if grads:
            norm = _norm(grads)
            scale = torch.where(norm == 0, 0.0, self.length(grads) / norm)
            for (group, p), grad in zip(held, grads, strict=True):
                p.sub_(grad * (group["lr"] * scale.to(grad.device, grad.dtype)))
        return loss


class RescaledSGD(_AlongGradient):
    """SGD whose gradient is rescaled to the 2-norm of sigma_gamma(g): PowerSGD's length, SGD's direction.

    Raises ValueError for arguments out of range.
    """

    def __init__(self, params, lr: float, gamma: float = 0.8, weight_decay: float = 0.0):
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma must be in [0, 1], not {gamma}")
        super().__init__(params, lr, weight_decay=weight_decay)
        self.gamma = gamma

    def length(self, grads: list[Tensor]) -> Tensor:
        return _norm([powerball(grad, self.gamma) for grad in grads])


class NormalisedSGD(_AlongGradient):
    """SGD with steps of length lr, whatever the gradient's. Raises ValueError for arguments out of range."""

    def __init__(self, params, lr: float, weight_decay: float = 0.0):
        super().__init__(params, lr, weight_decay=weight_decay)

    def length(self, grads: list[Tensor]) -> float:
        return 1.0


def _norm(tensors: list[Tensor]) -> Tensor:
    """In float64: the squares of vanishing gradients are 0 in float32."""
    norms = [torch.linalg.vector_norm(t, dtype=torch.float64).to(tensors[0].device) for t in tensors]
    return torch.linalg.vector_norm(torch.stack(norms))
