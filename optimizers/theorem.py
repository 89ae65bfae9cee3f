"""PowerSGD with the step size of its convergence proofs. This file needs only torch and powersgd.py.

Source: the PowerSGD paper, Supplementary A.1 (below equation 7), A.2 (above equation 9), B.1 and B.2 (their last
choices of alpha_t).
"""

import math

import torch
from torch import Tensor

from .powersgd import PowerSGD, powerball

SHARED = ("lipschitz", "gamma", "momentum")


class TheoremPowerSGD(PowerSGD):
    r"""PowerSGD whose learning rate is the alpha_t of the proofs, computed from every gradient.

    With g_t the gradient of all parameters of all groups as one vector, sigma the Powerball function, L the
    Lipschitz constant of the gradient of the objective, beta the momentum and v_1 = 0::

        alpha_t = g_t . sigma(g_t) / (L ||sigma(g_t)||^2) * (1 - beta)^2 / (1 + beta)
        v_{t+1} = beta v_t - alpha_t sigma(g_t)
        x_{t+1} = x_t + v_{t+1}

    where g . sigma(g) = sum |g_i|^(1 + gamma) and ||sigma(g)||^2 = sum |g_i|^(2 gamma). It covers the four algorithms
    whose convergence the supplement proves:

    ==================  =========  =============  =========
    name                momentum   g_t            theorem
    ==================  =========  =============  =========
    PowerGD             0          exact          A.1
    PowerGDM            beta       exact          B.1
    PowerSGD            0          mini-batch     3.1
    PowerSGDM           beta       mini-batch     3.2
    ==================  =========  =============  =========

    gamma = 1 is gradient descent with the constant 1/L (times the factor of beta). A zero gradient makes
    alpha_t 0/0; it is 0 here, with which the theorems stay true. The alpha_t of the last step is ``group["lr"]``
    of every group, a 0-dimensional tensor on the first gradient's device; nothing is read back to the host.

    The theorems have one f, one L and one norm ||.||_{1+gamma}, so `lipschitz`, `gamma` and `momentum` must be equal in
    all groups, and neither a learning rate nor weight decay (which would change f without changing g) can be given.

    Args:
        params: parameters or parameter groups, as for PowerSGD.
        lipschitz: L, positive and finite.
        gamma: power exponent in [0, 1].
        momentum: beta in [0, 1).
        maximize: ascend instead of descend; -f has the same L.
        foreach: as for PowerSGD.

    Raises:
        ValueError: an argument outside its range, or groups that disagree.
    """

    def __init__(
        self,
        params,
        lipschitz: float,
        gamma: float = 0.8,
        momentum: float = 0.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
    ):
        super().__init__(params, lr=0.0, gamma=gamma, momentum=momentum, maximize=maximize, foreach=foreach)
        self.defaults["lipschitz"] = lipschitz  # later groups inherit it
        for group in self.param_groups:
            group.setdefault("lipschitz", lipschitz)
        _check(self.param_groups)

    def add_param_group(self, param_group: dict) -> None:
        super().add_param_group(param_group)
        if "lipschitz" in self.defaults:  # else called by the constructor, which checks at its end
            try:
                _check(self.param_groups)
            except ValueError:
                self.param_groups.pop()
                raise

    @torch.no_grad()
    def step(self, closure=None):
        """One update with alpha_t of the current gradients; arguments and result as for PowerSGD.step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        _check(self.param_groups)
        first = self.param_groups[0]
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        alpha = adaptive_step(grads, first["lipschitz"], first["gamma"], first["momentum"])
        for group in self.param_groups:
            group["lr"] = alpha
        # Not super().step(): torch wraps `step` of every class that has an instance, and would call hooks twice.
        getattr(PowerSGD.step, "__wrapped__", PowerSGD.step)(self)
        return loss


def adaptive_step(grads: list[Tensor], lipschitz: float, gamma: float, momentum: float = 0.0) -> Tensor:
    """alpha_t of the proofs for a vector given as several tensors: a 0-dimensional tensor, float64 if a gradient is.

    Computed with m = max |g_i| as m^(1-gamma) times alpha_t of g / m, whose sums neither overflow nor vanish.
    """
    if any(g.is_sparse for g in grads):
        raise RuntimeError("TheoremPowerSGD does not support sparse gradients; use sparse=False in the layer")
    grads = [g for g in grads if g.numel()]
    if not grads:
        return torch.zeros(())
    dtype = torch.float64 if any(g.dtype == torch.float64 for g in grads) else torch.float32
    device = grads[0].device
    largest = torch.stack([torch.linalg.vector_norm(g, math.inf).to(device, dtype) for g in grads]).amax()
    scale = torch.where(largest == 0, 1.0, largest)
    along = squared = torch.zeros((), dtype=dtype, device=device)
    for g in grads:
        g = g.to(dtype) / scale.to(g.device)
        powered = powerball(g, gamma)
        along = along + (g * powered).sum().to(device)
        squared = squared + (powered * powered).sum().to(device)
    # The largest entry of g / m contributes 1 to `squared`, so clamping changes it only at g = 0.
    factor = (1 - momentum) ** 2 / (1 + momentum) / lipschitz
    return largest ** (1 - gamma) * along / squared.clamp(min=1) * factor


def _check(groups: list[dict]) -> None:
    first = groups[0]
    if not (first["lipschitz"] > 0 and math.isfinite(first["lipschitz"])):
        raise ValueError(f"lipschitz must be positive and finite, not {first['lipschitz']}")
    for group in groups:
        for name in SHARED:
            if group[name] != first[name]:
                raise ValueError(f"{name} must be the same in all groups, not {first[name]} and {group[name]}")
        if group["weight_decay"] != 0:
            raise ValueError(f"weight_decay must be 0, not {group['weight_decay']}: put it into the objective")
        if not group["lr_in_velocity"]:
            raise ValueError("lr_in_velocity must be True: the theorems are about equation (4)")
