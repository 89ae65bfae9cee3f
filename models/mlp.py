"""The fully connected networks of section 4.3 and Supplementary C (Table 3)."""

import torch
from torch import Tensor, nn

from .init import initialise


class MLP(nn.Module):
    """`depth` linear layers, in_features -> width -> ... -> width -> num_classes, with ReLU between them.

    Table 3 has width 256 and depths 12 to 15 (10 to 13 hidden layers between the input and output layers);
    section 4.3 uses depth 13. The paper does not state the initialisation; "torch" is `nn.Linear`'s default.

    gain multiplies all weights after initialisation; above 1 with init="he", signals and gradients explode.

    Input: [batch, ...] with in_features values per image; output: logits [batch, num_classes].
    Raises ValueError for a depth below 2 or an unknown initialisation.
    """

    def __init__(self, in_features: int = 784, num_classes: int = 10, depth: int = 13, width: int = 256,
                 init: str = "torch", gain: float = 1.0):  # fmt: skip
        super().__init__()
        if depth < 2:
            raise ValueError(f"an MLP has at least 2 layers, not depth {depth}")
        sizes = [in_features] + [width] * (depth - 1) + [num_classes]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        initialise(self, init)
        if gain != 1:
            with torch.no_grad():
                for name, parameter in self.named_parameters():
                    if name.endswith("weight"):
                        parameter.mul_(gain)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)
