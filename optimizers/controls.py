"""Controls for PowerSGD: is it the power, or only a longer step? SGD with steps as long as sigma(g); normalised SGD.

Both keep the direction of the gradient, which PowerSGD changes: the direction of the gradient of all parameters as one
vector, or with `per_tensor` that of each parameter tensor. Nothing is read back to the host.
"""

import torch
from torch import Tensor

from .powersgd import powerball


class _AlongGradient(torch.optim.Optimizer):
    """x -= lr * (length(g) * g / ||g|| + weight_decay * x); a zero gradient gives no step but the decay.

    g: the gradient of all parameters as one vector, or with `per_tensor` that of each parameter tensor. Weight decay is
    not part of what is rescaled, as it is not part of what PowerSGD raises to a power (decay_after_power).
    """

    def __init__(self, params, lr: float, per_tensor: bool, weight_decay: float):
        if lr < 0:
            raise ValueError(f"lr must be at least 0, not {lr}")
        if weight_decay < 0:
            raise ValueError(f"weight_decay must be at least 0, not {weight_decay}")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.per_tensor = per_tensor

    def length(self, grads: list[Tensor]) -> Tensor | float:
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure=None):
        """One update; returns the closure's loss, or None without a closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        held = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        grads = [p.grad for _, p in held]
        if grads:
            together = None if self.per_tensor else self._scale(grads)
            for (group, p), grad in zip(held, grads, strict=True):
                scale = self._scale([grad]) if together is None else together
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(grad * (group["lr"] * scale.to(grad.device, grad.dtype)))
        return loss

    def _scale(self, grads: list[Tensor]) -> Tensor:
        norm = _norm(grads)
        return torch.where(norm == 0, 0.0, self.length(grads) / norm)


class RescaledSGD(_AlongGradient):
    """SGD whose gradient is rescaled to the 2-norm of sigma_gamma(g): PowerSGD's length, SGD's direction.

    per_tensor: each parameter tensor's step has the length that PowerSGD's would have, instead of only the total.

    Raises ValueError for arguments out of range.
    """

    def __init__(self, params, lr: float, gamma: float = 0.8, weight_decay: float = 0.0, per_tensor: bool = False):
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma must be in [0, 1], not {gamma}")
        super().__init__(params, lr, per_tensor, weight_decay)
        self.gamma = gamma

    def length(self, grads: list[Tensor]) -> Tensor:
        return _norm([powerball(grad, self.gamma) for grad in grads])


class NormalisedSGD(_AlongGradient):
    """SGD with steps of length lr for any gradient; with `per_tensor`, of length lr for each parameter tensor.

    Raises ValueError for arguments out of range.
    """

    def __init__(self, params, lr: float, weight_decay: float = 0.0, per_tensor: bool = False):
        super().__init__(params, lr, per_tensor, weight_decay)

    def length(self, grads: list[Tensor]) -> float:
        return 1.0


def _norm(tensors: list[Tensor]) -> Tensor:
    """The 2-norm in float64, since in float32 the squares of vanishing gradients are 0."""
    norms = [torch.linalg.vector_norm(t, dtype=torch.float64).to(tensors[0].device) for t in tensors]
    return torch.linalg.vector_norm(torch.stack(norms))
