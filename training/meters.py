"""What a run measures besides loss and accuracy; each further quantity is a further class here.

A meter adds up `size` numbers over the steps of an epoch or the batches of an evaluation. All meters share one tensor
on the device, each with its own slice; it is read once an epoch, so no step waits for the device.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from optimizers import powerball
from runs.schema import Config


class StepMeter(Protocol):
    """Measures every step of training, after the backward pass and before the update."""

    name: str
    size: int

    def update(self, sums: Tensor) -> None:
        """Add this step to `sums` ([size]), without reading from the device."""

    def columns(self, sums: list[float]) -> dict[str, float | None]:
        """The epoch's columns from its sums over all processes."""
        ...


def step_meters(config: Config, model: nn.Module, optimizer: torch.optim.Optimizer) -> list[StepMeter]:
    """The meters that the config asks for. Every checkpoint stores their parts of the sums in this order."""
    gamma, scaled = optimizer.defaults.get("gamma"), config.precision == "fp16"
    meters: list[StepMeter] = [FirstLayer(model, gamma, scaled)]
    if config.layer_norms:
        meters.append(LayerNorms(model, gamma, scaled))
    return meters


class FirstLayer:
    """Figure 2(b): means over the steps of |g|_1 and |sigma(g)|_1, where g is the gradient of the first layer's weight.

    gamma: the exponent of sigma, or None for an optimizer without one. scaled: leave out the steps that fp16's scaler
    skips.
    """

    name, size = "first_layer", 3  # |g|_1, |sigma(g)|_1, steps

    def __init__(self, model: nn.Module, gamma: float | None, scaled: bool):
        self.weight = next(p for p in model.parameters() if p.dim() > 1)
        self.gamma, self.scaled = gamma, scaled

    def update(self, sums: Tensor) -> None:
        grad = self.weight.grad
        assert grad is not None  # the backward pass has run
        norm = powered = torch.linalg.vector_norm(grad, 1)
        if self.gamma is not None:
            powered = torch.linalg.vector_norm(powerball(grad, self.gamma), 1)
        found = torch.stack([norm, powered, torch.ones_like(norm)])
        sums += torch.where(norm.isfinite(), found, 0) if self.scaled else found

    def columns(self, sums: list[float]) -> dict[str, float | None]:
        norm, powered, steps = sums
        steps = steps or float("nan")
        return {"grad_norm1": norm / steps, "powered_norm1": None if self.gamma is None else powered / steps}


class LayerNorms:
    """Figure 3 in training: each layer's mean over the steps of |g|_2, and of |sigma(g)|_2 / |g|_2 where g is not 0.

    For models with `layers` (models/__init__.py). The norms are computed in the dtype of the sums: in float32 the
    squares of a vanishing gradient would be 0.
    """

    name = "layer_norms"

    def __init__(self, model: nn.Module, gamma: float | None, scaled: bool):
        self.weights = [layer.weight for layer in _layers(model)]
        self.gamma, self.scaled = gamma, scaled
        self.size = 4 * len(self.weights)  # by layer: ratios, steps that have a ratio, |g|_2, steps

    def update(self, sums: Tensor) -> None:
        grads = [weight.grad for weight in self.weights if weight.grad is not None]
        norms = powered = _norms(grads, sums.dtype)
        if self.gamma is not None:
            powered = _norms([powerball(grad, self.gamma) for grad in grads], sums.dtype)
        some = norms != 0
        found = torch.stack([torch.where(some, powered / norms, 0), some, norms, torch.ones_like(norms)])
        sums += (torch.where(norms.isfinite().all(), found, 0) if self.scaled else found).flatten()

    def columns(self, sums: list[float]) -> dict[str, float | None]:
        depth = len(self.weights)
        ratios, counts, norms, steps = (sums[start : start + depth] for start in range(0, self.size, depth))
        amplification = [ratio / n if n else None for ratio, n in zip(ratios, counts, strict=True)]
        means = [norm / (n or float("nan")) for norm, n in zip(norms, steps, strict=True)]
        return _numbered("amplification", amplification) | _numbered("grad_norm2", means)


class DeadUnits:
    """By layer, the hidden units that fire for no image of a data set, so that no gradient reaches their weights.

    For models with `layers` (models/__init__.py); size 0 and no columns for others.
    """

    name = "dead_units"

    def __init__(self, model: nn.Module):
        self.layers = _layers(model)[:-1]
        self.widths = [layer.out_features for layer in self.layers]
        self.size = sum(self.widths)

    @contextmanager
    def watching(self, sums: Tensor) -> Iterator[None]:
        """Within the block every forward pass adds 1 to `sums` ([size]) for each unit that fires for some image."""
        parts = sums.split(self.widths)
        hooks = [
            layer.register_forward_hook(partial(self.update, part))
            for layer, part in zip(self.layers, parts, strict=True)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def update(self, sums: Tensor, layer: nn.Module, inputs: tuple, output: Tensor) -> None:
        sums += (output > 0).any(dim=0)

    def columns(self, sums: list[float]) -> dict[str, int]:
        times = iter(sums)
        return _numbered("dead_units", [sum(next(times) == 0 for _ in range(width)) for width in self.widths])


def _layers(model: nn.Module) -> list[nn.Linear]:
    return list(getattr(model, "layers", ()))


def _norms(grads: list[Tensor], dtype: torch.dtype) -> Tensor:
    return torch.stack([torch.linalg.vector_norm(grad, dtype=dtype) for grad in grads])


def _numbered(name: str, values: list) -> dict:
    return {f"{name}_{layer}": value for layer, value in enumerate(values, start=1)}
