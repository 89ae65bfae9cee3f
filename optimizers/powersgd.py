"""PowerSGD: stochastic gradient descent on powered gradients. This file needs only torch.

Source: "PowerSGD: Powered Stochastic Gradient Descent Methods for Accelerated Non-Convex
Optimization", section 2, equations (3) and (4), algorithms 1 and 2.
"""

import functools

import torch
from torch import Tensor
from torch.optim import Optimizer

Tensors = list[Tensor] | tuple[Tensor, ...]

# The CPU path works on blocks of about this many elements, so that a block stays in the cache during its passes
# and temporary memory is as large as a block, not as a parameter.
BLOCK = 1 << 16


def powerball(g: Tensor, gamma: float) -> Tensor:
    """The Powerball function sigma(g) = sign(g) |g|^gamma, elementwise (section 2.1).

    g: a real floating-point tensor of any shape; gamma in [0, 1]. Returns a tensor of g's shape and dtype
    (g itself at gamma = 1). Zero stays zero, inf stays inf (1 at gamma = 0), nan stays nan. Float32 on the
    CPU is within a relative 1e-5 of the exact value (unless that is denormal): it uses 2^(gamma log2|g|), which
    is three times faster there than pow.
    """
    if gamma == 1:
        return g
    if gamma == 0:
        # Scaled up until the smallest denormal is above 1, then clipped: torch.sign would turn nan into 0.
        info = torch.finfo(g.dtype)
        return g.mul(1 / info.tiny).mul_(1 / info.eps).clamp_(-1, 1)
    if g.dtype in (torch.float16, torch.bfloat16):
        # pow rounds gamma to the tensor's dtype: at 0.9, bfloat16 results would be up to 15 % off.
        return powerball(g.float(), gamma).to(g.dtype)
    if g.dtype == torch.float32 and g.device.type == "cpu":
        # ReLU networks' gradients are full of zeros, for which sqrt and log2 are ten times slower.
        if gamma == 0.5:
            # g / sqrt|g|, the factor clipped to its range over finite g so that 0 and inf stay themselves.
            return g.abs().rsqrt_().clamp_(2.0**-65, 2.0**75).mul_(g)
        # The smallest denormal replaces zero; the sign makes it zero again.
        return g.abs().clamp_(min=2.0**-149).log2_().mul_(gamma).exp2_().mul_(g.sign())
    if gamma == 0.5:
        return g.abs().sqrt_().copysign_(g)
    return g.abs().pow_(gamma).copysign_(g)


class PowerSGD(Optimizer):
    r"""PowerSGD (momentum = 0, algorithm 1) and PowerSGDM (momentum > 0, algorithm 2).

    With g the gradient, sigma the Powerball function and v = 0 at the start::

        d = sigma(g) + weight_decay * x            # decay_after_power=True
        d = sigma(g + weight_decay * x)            # decay_after_power=False

        x = x - lr * d                             # momentum = 0, equation (3)

        v = momentum * v - lr * d                  # lr_in_velocity=True, equation (4)
        x = x + v

        v = momentum * v + d                       # lr_in_velocity=False
        x = x - lr * v

    gamma = 1 is SGD, gamma = 0 is signSGD (a zero gradient gives a zero step). Differences:

    - The paper has the learning rate inside the velocity, ``torch.optim.SGD`` and the authors' code outside.
      The two agree while lr is constant and differ as soon as it changes: outside, a drop of lr also scales
      the steps already accumulated in v.
    - The paper states no weight decay. The authors' code adds it after the power (default here); textbook
      L2 regularisation would add it before.
    - torch and the authors' code start v with the first direction, without dampening; so do both forms here.
      The authors' Nesterov and dampening options are not in the paper and are left out.

    With ``lr_in_velocity=False``, and without momentum in either form, gamma = 1 gives bit for bit the
    weights of ``torch.optim.SGD``. Without momentum there is no state. The power acts on ``p.grad`` as it is
    when ``step`` is called: accumulate, unscale and clip first.

    Args:
        params: parameters or parameter groups, real floating point and dense.
        lr: learning rate, a float >= 0 or a 0-dimensional tensor.
        gamma: power exponent in [0, 1].
        momentum: beta in [0, 1).
        weight_decay: coefficient >= 0.
        lr_in_velocity: True for equation (4), False for torch's form; no effect without momentum.
        decay_after_power: True for sigma(g) + wd x, False for sigma(g + wd x).
        maximize: ascend instead of descend.
        foreach: use multi-tensor kernels, which need a temporary copy or two of all gradients. Default
            None: only if all parameters are on CUDA; elsewhere they are slower than the loop.
        fused: on CUDA, compile the update to kernels that read and write each tensor once (5 passes over the
            parameters instead of about 20). The last bits may differ from the loop's.

    Raises:
        ValueError: an argument outside its range, or a complex parameter.
        RuntimeError: a sparse gradient, in ``step``.
    """

    def __init__(
        self,
        params,
        lr: float | Tensor = 0.1,
        gamma: float = 0.8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        *,
        lr_in_velocity: bool = True,
        decay_after_power: bool = True,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool = False,
    ):
        super().__init__(
            params,
            {
                "lr": lr,
                "gamma": gamma,
                "momentum": momentum,
                "weight_decay": weight_decay,
                "lr_in_velocity": lr_in_velocity,
                "decay_after_power": decay_after_power,
                "maximize": maximize,
                "foreach": foreach,
                "fused": fused,
            },
        )

    def __setstate__(self, state: dict) -> None:
        """Also accepts a state dict that lacks newer options; these then keep this optimizer's values."""
        super().__setstate__(state)
        for group in self.param_groups:
            for name, default in self.defaults.items():
                if name != "differentiable":  # which torch has just put there; a resumed run's groups are as they were
                    group.setdefault(name, default)

    def add_param_group(self, param_group: dict) -> None:
        super().add_param_group(param_group)
        try:
            _check(self.param_groups[-1])
        except Exception:
            self.param_groups.pop()
            raise

    def step(self, closure=None):
        """One update of every parameter that has a gradient.

        closure: re-evaluates the model and returns the loss, optional. Returns the closure's loss or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()

        with torch.no_grad():
            for group in self.param_groups:
                self._update(group)
        return loss

    def _update(self, group: dict) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        grads = [p.grad for p in params]
        if any(g.is_sparse for g in grads):
            raise RuntimeError("PowerSGD does not support sparse gradients; use sparse=False in the layer")
        velocities = self._velocities(params) if group["momentum"] else [None] * len(params)
        foreach = group["foreach"]
        if foreach is None:
            foreach = bool(params) and all(p.is_cuda for p in params)
        update = _multi_tensor if foreach and params else _single_tensor
        if group["fused"] and params and all(p.is_cuda for p in params):
            update = _fused
        update(
            params,
            grads,
            velocities,
            lr=group["lr"],
            gamma=group["gamma"],
            momentum=group["momentum"],
            weight_decay=group["weight_decay"],
            lr_in_velocity=group["lr_in_velocity"],
            decay_after_power=group["decay_after_power"],
            maximize=group["maximize"],
        )

    def _velocities(self, params: list[Tensor]) -> list[Tensor]:
        for p in params:
            if "velocity" not in self.state[p]:
                self.state[p]["velocity"] = torch.zeros_like(p)  # of p's layout
        return [self.state[p]["velocity"] for p in params]


def _check(group: dict) -> None:
    lr, gamma, momentum, decay = group["lr"], group["gamma"], group["momentum"], group["weight_decay"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError(f"lr must have one element, not the shape {tuple(lr.shape)}")
    if not lr >= 0:
        raise ValueError(f"lr must be at least 0, not {lr}")
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma must be in [0, 1], not {gamma}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), not {momentum}")
    if not decay >= 0:
        raise ValueError(f"weight_decay must be at least 0, not {decay}")
    for p in group["params"]:
        if p.is_complex():
            raise ValueError(f"PowerSGD is defined for real parameters, not for {p.dtype}")


def _single_tensor(
    params, grads, velocities, *, lr, gamma, momentum, weight_decay, lr_in_velocity, decay_after_power, maximize
):
    """The update as in the docstring, one parameter (on the CPU, one block of it) at a time."""
    for whole in zip(params, grads, velocities, strict=True):
        for p, g, v in _blocks(*whole) if gamma != 1 else [whole]:
            d = -g if maximize else g
            if weight_decay and not decay_after_power:
                d = _add(d, p, weight_decay, in_place=d is not g)
            d = powerball(d, gamma)
            if weight_decay and decay_after_power:
                d = _add(d, p, weight_decay, in_place=d is not g)
            if v is None:
                _add_scaled(p, d, lr)
            elif lr_in_velocity:
                _add_scaled(v.mul_(momentum), d, lr)
                p.add_(v)
            else:
                v.mul_(momentum).add_(d)
                _add_scaled(p, v, lr)


def _add(d: Tensor, p: Tensor, alpha: float, in_place: bool) -> Tensor:
    return d.add_(p, alpha=alpha) if in_place else d.add(p, alpha=alpha)


def _blocks(p: Tensor, g: Tensor, v: Tensor | None):
    """Matching views of p, g and v, each of about BLOCK elements: flat if all are contiguous, else rows."""
    if p.numel() <= BLOCK or p.device.type != "cpu" or torch.compiler.is_compiling():
        return [(p, g, v)]
    whole = [p, g] if v is None else [p, g, v]
    if all(t.is_contiguous() for t in whole):
        p, g, v = p.view(-1), g.view(-1), None if v is None else v.view(-1)
    rows = max(1, BLOCK * p.size(0) // p.numel())
    parts = [t.split(rows) for t in (p, g)]
    parts.append(v.split(rows) if v is not None else [None] * len(parts[0]))
    return zip(*parts, strict=True)


def _add_scaled(target: Tensor, d: Tensor, lr: float | Tensor) -> None:
    """target -= lr * d, without reading a tensor lr back to the host."""
    if isinstance(lr, Tensor):
        target.addcmul_(d, lr.to(d.device, d.dtype).view(()), value=-1)
    else:
        target.add_(d, alpha=-lr)


def _multi_tensor(
    params, grads, velocities, *, lr, gamma, momentum, weight_decay, lr_in_velocity, decay_after_power, maximize
):
    """The same update with multi-tensor kernels: one launch for many parameters."""
    d = torch._foreach_neg(grads) if maximize else grads
    if weight_decay and not decay_after_power:
        d = torch._foreach_add(d, params, alpha=weight_decay)
    d = _foreach_powerball(d, gamma)
    if weight_decay and decay_after_power:
        d = torch._foreach_add(d, params, alpha=weight_decay)
    if velocities[0] is None:
        _foreach_add_scaled(params, d, lr)
    elif lr_in_velocity:
        torch._foreach_mul_(velocities, momentum)
        _foreach_add_scaled(velocities, d, lr)
        torch._foreach_add_(params, velocities)
    else:
        torch._foreach_mul_(velocities, momentum)
        torch._foreach_add_(velocities, d)
        _foreach_add_scaled(params, velocities, lr)


def _fused(params, grads, velocities, *, lr, **options):
    """The same update, compiled. lr is a tensor, since with floats each new value would be compiled again."""
    lr = lr if isinstance(lr, Tensor) else torch.full((), lr, device=params[0].device)
    _compiled()(params, grads, velocities, lr=lr, **options)


@functools.cache
def _compiled():
    return torch.compile(_multi_tensor, dynamic=False)


def _foreach_powerball(grads: Tensors, gamma: float) -> Tensors:
    if gamma == 1:
        return grads
    dtypes = {g.dtype for g in grads}
    if gamma == 0 and len(dtypes) == 1:
        info = torch.finfo(*dtypes)
        signs = torch._foreach_mul(grads, 1 / info.tiny)
        torch._foreach_mul_(signs, 1 / info.eps)
        torch._foreach_clamp_min_(signs, -1)
        torch._foreach_clamp_max_(signs, 1)
        return signs
    if gamma == 0 or dtypes & {torch.float16, torch.bfloat16}:
        return [powerball(g, gamma) for g in grads]
    powered = torch._foreach_abs(grads)
    if gamma == 0.5:
        torch._foreach_sqrt_(powered)
    else:
        torch._foreach_pow_(powered, gamma)
    torch._foreach_mul_(powered, torch._foreach_sign(grads))
    return powered


def _foreach_add_scaled(targets: Tensors, d: Tensors, lr: float | Tensor) -> None:
    """As _add_scaled. On a device, a tensor lr is multiplied in a separate launch, so lr * d is rounded once more."""
    devices = {x.device for x in d}
    if not isinstance(lr, Tensor):
        torch._foreach_add_(targets, d, alpha=-lr)
    elif len(devices) > 1 or devices == {torch.device("cpu")}:
        for target, x in zip(targets, d, strict=True):
            _add_scaled(target, x, lr)
    else:
        torch._foreach_sub_(targets, torch._foreach_mul(d, lr.to(d[0].device).view(())))
