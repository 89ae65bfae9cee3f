"""WideResNet (depth 26, k = 10) for 32 x 32 images: a model of the paper's for CIFAR-100 (Table 2)."""

import torch.nn.functional as F
from torch import Tensor, nn

from .init import initialise


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (the first carries the stride) and a shortcut, summed before the last ReLU.

    The shortcut (`downsample`, the name of torchvision and of the source) is the identity, or a strided
    1x1 convolution where the shape changes.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        if stride == 1 and channels_in == channels_out:
            self.downsample = nn.Identity()
        else:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        residual = F.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        return F.relu(residual + self.downsample(x))


class WideResNetCifar(nn.Module):
    """Wide post-activation ResNet with three stages, after junyuseu/pytorch-cifar-models (footnote 1).

    This is not Zagoruyko and Komodakis' network: every block ends with a ReLU after the sum (theirs are
    pre-activation), there is no dropout and no BatchNorm before pooling, and `depth` is 6 * n + 2 (theirs 6 * n + 4).

    (N, 3, 32, 32) images give (N, num_classes) logits. The stages give maps of 16, 32 and 64 times `widen`
    channels and 32, 16 and 8 pixels a side; a global average and one Linear follow. Other image sizes work
    too, each stage but the first halving the side (rounded up).

    Args:
        num_classes: number of logits.
        depth: weighted layers, 6 * n + 2 for n blocks a stage; shortcuts do not count.
        widen: the paper's k. Depth 26 with k = 10 and 100 classes has 36,539,124 parameters.
        init: a scheme of `models.init`; "he_fan_out" is the source's.
        stem_stride: 1 in the paper; 2 halves every map, for small machines.

    Raises:
        ValueError: `depth` is not 6 * n + 2 with n at least 1, `num_classes`, `widen` or `stem_stride` is
            below 1, or `init` is unknown.
    """

    def __init__(
        self,
        num_classes: int = 100,
        depth: int = 26,
        widen: int = 10,
        init: str = "he_fan_out",
        stem_stride: int = 1,
    ):
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"depth={depth!r} must be 6 * n + 2 with n at least 1: 8, 14, 20, 26, ...")
        if num_classes < 1:
            raise ValueError(f"num_classes={num_classes!r} must be at least 1")
        if widen < 1:
            raise ValueError(f"widen={widen!r} must be at least 1")
        if stem_stride < 1:
            raise ValueError(f"stem_stride={stem_stride!r} must be at least 1")
        blocks = depth // 6
        self.conv1 = nn.Conv2d(3, 16, kernel_size=3, stride=stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16 * widen, blocks, stride=1)
        self.layer2 = _stage(16 * widen, 32 * widen, blocks, stride=2)
        self.layer3 = _stage(32 * widen, 64 * widen, blocks, stride=2)
        self.fc = nn.Linear(64 * widen, num_classes)
        initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _stage(channels_in: int, channels_out: int, blocks: int, stride: int) -> nn.Sequential:
    """`blocks` basic blocks, of which the first carries the stride and the change of channels."""
    first = BasicBlock(channels_in, channels_out, stride)
    rest = [BasicBlock(channels_out, channels_out) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)
