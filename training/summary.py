"""A config's network as a table of its layers with parameters and multiply-adds. Nothing is trained."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from runs.schema import Config

from .build import build_model


def summary(config: Config) -> str:
    """A line for each layer that has weights, in order of use; multiply-adds are for one image."""
    with torch.device("meta"):
        model = build_model(config)
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name):
        return lambda module, inputs, output: shapes.update({name: tuple(output.shape[1:])})

    layers = {name: module for name, module in model.named_modules() if list(module.parameters(recurse=False))}
    for name, module in layers.items():
        module.register_forward_hook(note(name))
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, *config.dataset.image_shape, device="meta"))
    flops = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    lines = [f"{'layer':34} {'kind':12} {'output':>18} {'parameters':>12} {'multiply-adds':>15}"]
    for name, shape in shapes.items():
        module = layers[name]
        parameters = sum(p.numel() for p in module.parameters(recurse=False))
        products = flops.get(f"{type(model).__name__}.{name}", 0) // 2
        size = " x ".join(map(str, shape))
        lines.append(f"{name:34} {type(module).__name__:12} {size:>18} {parameters:12,} {products:15,}")
    total = sum(p.numel() for p in model.parameters())
    lines.append(f"{config.model.name:34} {'total':12} {'':18} {total:12,} {counter.get_total_flops() // 2:15,}")
    return "\n".join(lines)
