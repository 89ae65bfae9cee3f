"""The size of a network, counted on an instance that takes no memory for its weights."""

import math

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from . import MODELS


def size(model: dict, image_shape: list[int], num_classes: int) -> tuple[int, int]:
    """(parameters, multiply-adds of one image's forward pass) of the network with this config, which has its name.

    image_shape: channels, height, width. `init` and keys that are not arguments are ignored.
    """
    arguments = {key: value for key, value in model.items() if key not in ("name", "init", "defaults", "summary")}
    if model["name"] == "mlp":
        arguments["in_features"] = math.prod(image_shape)
    with torch.device("meta"):
        network = MODELS[model["name"]](num_classes=num_classes, init="torch", **arguments).eval()
    return measured(network, image_shape)


def measured(network: nn.Module, image_shape: list[int]) -> tuple[int, int]:
    """The same for a network built on device="meta"."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, *image_shape, device="meta"))
    return sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2
