"""DenseNet-121 for 32 x 32 images: the paper's second model for CIFAR-10 (section 4.2, Table 2)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .init import initialise


class DenseLayer(nn.Module):
    """BN, ReLU, 1x1 to 4 * growth; BN, ReLU, 3x3 to `growth` new maps, put BEFORE the ones that came in.

    Most other DenseNets append the new maps. The order changes no counts, but the same weights give another
    network.
    """

    def __init__(self, channels_in: int, growth: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, 4 * growth, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, kernel_size=3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv1(F.relu(self.bn1(x)))
        new = self.conv2(F.relu(self.bn2(new)))
        return torch.cat([new, x], dim=1)


class Transition(nn.Module):
    """BN, ReLU, 1x1 to half the channels (reduction 0.5), then a 2x2 average: half the side."""

    def __init__(self, channels_in: int):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels_in)
        self.conv = nn.Conv2d(channels_in, channels_in // 2, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(F.relu(self.bn(x))), 2)


class DenseNetCifar(nn.Module):
    """DenseNet-BC with a 3x3 stem of 2 * growth channels, after kuangliu/pytorch-cifar (footnote 1).

    (N, 3, 32, 32) images give (N, num_classes) logits. The four dense blocks keep 32, 16, 8 and 4 pixels a
    side; BN, ReLU, a global average and one Linear follow. Other image sizes from 8 x 8 up work too.

    Args:
        num_classes: number of logits.
        blocks: layers in each of the four dense blocks; (6, 12, 24, 16) is DenseNet-121.
        growth: maps that each layer adds; 32 in the paper's model, with 6,956,298 parameters.
        init: a scheme of `models.init`; the source leaves its layers as torch makes them.
        stem_stride: 1 in the paper; 2 halves every map, for small machines.

    Raises:
        ValueError: `blocks` are not four positive numbers, `num_classes`, `growth` or `stem_stride` is below 1,
            or `init` is unknown.
    """

    def __init__(
        self,
        num_classes: int = 10,
        blocks: Sequence[int] = (6, 12, 24, 16),
        growth: int = 32,
        init: str = "torch",
        stem_stride: int = 1,
    ):
        super().__init__()
        if len(blocks) != 4 or min(blocks) < 1:
            raise ValueError(f"blocks={blocks!r} must be four numbers, each at least 1")
        if num_classes < 1:
            raise ValueError(f"num_classes={num_classes!r} must be at least 1")
        if growth < 1:
            raise ValueError(f"growth={growth!r} must be at least 1")
        if stem_stride < 1:
            raise ValueError(f"stem_stride={stem_stride!r} must be at least 1")
        stem = 2 * growth
        channels1 = stem + blocks[0] * growth
        channels2 = channels1 // 2 + blocks[1] * growth
        channels3 = channels2 // 2 + blocks[2] * growth
        channels4 = channels3 // 2 + blocks[3] * growth
        self.conv1 = nn.Conv2d(3, stem, kernel_size=3, stride=stem_stride, padding=1, bias=False)
        self.dense1 = _dense_block(stem, growth, blocks[0])
        self.trans1 = Transition(channels1)
        self.dense2 = _dense_block(channels1 // 2, growth, blocks[1])
        self.trans2 = Transition(channels2)
        self.dense3 = _dense_block(channels2 // 2, growth, blocks[2])
        self.trans3 = Transition(channels3)
        self.dense4 = _dense_block(channels3 // 2, growth, blocks[3])
        self.bn = nn.BatchNorm2d(channels4)
        self.linear = nn.Linear(channels4, num_classes)
        initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trans1(self.dense1(self.conv1(x)))
        x = self.trans2(self.dense2(x))
        x = self.trans3(self.dense3(x))
        x = F.relu(self.bn(self.dense4(x)))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _dense_block(channels_in: int, growth: int, layers: int) -> nn.Sequential:
    """`layers` dense layers at one resolution; the maps grow from channels_in by layers * growth."""
    return nn.Sequential(*(DenseLayer(channels_in + i * growth, growth) for i in range(layers)))
