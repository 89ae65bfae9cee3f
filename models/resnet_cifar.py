"""ResNet-50 for 32 x 32 images: the paper's model for CIFAR-10 (section 4.2, Table 2)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .init import initialise


class Bottleneck(nn.Module):
    """1x1, 3x3 (carries the stride), 1x1 to 4 * width channels, and a shortcut, summed before the last ReLU.

    The shortcut is the identity, or a strided 1x1 convolution where the shape changes.
    """

    expansion = 4

    def __init__(self, channels_in: int, width: int, stride: int = 1):
        super().__init__()
        channels_out = self.expansion * width
        self.conv1 = nn.Conv2d(channels_in, width, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels_out, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        if stride == 1 and channels_in == channels_out:
            self.shortcut = nn.Identity()
        else:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        residual = F.relu(self.bn1(self.conv1(x)))
        residual = F.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        return F.relu(residual + self.shortcut(x))


class ResNetCifar(nn.Module):
    """Bottleneck ResNet with a 3x3 stem and no max pooling, after kuangliu/pytorch-cifar (footnote 1).

    (N, 3, 32, 32) images give (N, num_classes) logits. The four stages give maps of 4, 8, 16 and 32 times
    `width` channels and 32, 16, 8 and 4 pixels a side; a global average and one Linear follow. Other image
    sizes work too, each stage but the first halving the side (rounded up).

    Args:
        num_classes: number of logits.
        blocks: blocks in each of the four stages; (3, 4, 6, 3) is ResNet-50, with 23,520,842 parameters.
        width: channels of the stem and of the first stage's 3x3 convolutions.
        stem_stride: 1 in the paper; 2 halves every map, for small machines.
        init: a scheme of `models.init`; the source leaves its layers as torch makes them.

    Raises:
        ValueError: `blocks` are not four positive numbers, `num_classes`, `width` or `stem_stride` is below 1,
            or `init` is unknown.
    """

    def __init__(
        self,
        num_classes: int = 10,
        blocks: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        init: str = "torch",
        stem_stride: int = 1,
    ):
        super().__init__()
        if len(blocks) != 4 or min(blocks) < 1:
            raise ValueError(f"blocks={blocks!r} must be four numbers, each at least 1")
        if num_classes < 1:
            raise ValueError(f"num_classes={num_classes!r} must be at least 1")
        if width < 1:
            raise ValueError(f"width={width!r} must be at least 1")
        if stem_stride < 1:
            raise ValueError(f"stem_stride={stem_stride!r} must be at least 1")
        self.conv1 = nn.Conv2d(3, width, kernel_size=3, stride=stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks[0], stride=1)
        self.layer2 = _stage(4 * width, 2 * width, blocks[1], stride=2)
        self.layer3 = _stage(8 * width, 4 * width, blocks[2], stride=2)
        self.layer4 = _stage(16 * width, 8 * width, blocks[3], stride=2)
        self.linear = nn.Linear(32 * width, num_classes)
        initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _stage(channels_in: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """`blocks` bottlenecks, of which the first carries the stride and the change of channels."""
    first = Bottleneck(channels_in, width, stride)
    rest = [Bottleneck(Bottleneck.expansion * width, width) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)
