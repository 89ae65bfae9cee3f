"""Table 3: the networks of the vanishing-gradient experiments, read off the networks that the suite builds."""

from itertools import groupby

import torch

from analysis.paper import reference
from analysis.tables import both
from models import MODELS

from .recipe import Figure


def make() -> dict:
    rows = []
    for depth in reference()["figure4"]["depth"]:
        with torch.device("meta"):
            network = MODELS["mlp"](depth=depth)
        shapes = [f"{layer.in_features} -> {layer.out_features}" for layer in network.layers]
        layers = [(shape, len(list(group))) for shape, group in groupby(shapes)]
        (first, _), (hidden, times), (last, _) = layers
        parameters = sum(p.numel() for p in network.parameters())
        rows.append([str(depth), first, f"{hidden} (x {times})", last, f"{parameters:,}"])
    header = ["depth", "input layer", "hidden layers", "output layer", "parameters"]
    return both("table3", "Table 3: the MLPs of the vanishing gradient experiments", header, rows)


FIGURES = {"table3": Figure(__doc__, make)}
