"""Table 3: the networks of the vanishing-gradient experiments, read off the networks that the suite builds.

python -m figures.table3
"""

from itertools import groupby

import torch

from analysis.tables import write
from models import MODELS

DEPTHS = (12, 13, 14, 15)


def main() -> None:
    rows = []
    for depth in DEPTHS:
        with torch.device("meta"):
            network = MODELS["mlp"](depth=depth)
        shapes = [f"{layer.in_features} -> {layer.out_features}" for layer in network.layers]
        layers = [(shape, len(list(group))) for shape, group in groupby(shapes)]
        (first, _), (hidden, times), (last, _) = layers
        parameters = sum(p.numel() for p in network.parameters())
        rows.append([str(depth), first, f"{hidden} (x {times})", last, f"{parameters:,}"])
    header = ["depth", "input layer", "hidden layers", "output layer", "parameters"]
    write("table3", "Table 3: the MLPs of the vanishing gradient experiments", header, rows)


if __name__ == "__main__":
    main()
