"""ResNeXt-29 (16x64d) for 32 x 32 images: a model of the paper's for CIFAR-100 (section 4.2, Table 2)."""

import torch.nn.functional as F
from torch import Tensor, nn

from .init import initialise


class GroupedBottleneck(nn.Module):
    """1x1, grouped 3x3 (carries the stride), 1x1, and a shortcut, summed before the last ReLU.

    `width` is the channels of one of the `cardinality` groups. The shortcut (`downsample`, the name of
    torchvision and of the source) is the identity, or a strided 1x1 convolution where the shape changes.
    """

    def __init__(self, channels_in: int, channels_out: int, cardinality: int, width: int, stride: int = 1):
        super().__init__()
        inner = cardinality * width
        self.conv1 = nn.Conv2d(channels_in, inner, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, kernel_size=3, stride=stride, padding=1, groups=cardinality, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, channels_out, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        if stride == 1 and channels_in == channels_out:
            self.downsample = nn.Identity()
        else:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        residual = F.relu(self.bn1(self.conv1(x)))
        residual = F.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        return F.relu(residual + self.downsample(x))


class ResNeXtCifar(nn.Module):
    """ResNeXt with three stages, after junyuseu/pytorch-cifar-models (footnote 1).

    (N, 3, 32, 32) images give (N, num_classes) logits. The stages give maps of 4, 8 and 16 times `stem`
    channels and 32, 16 and 8 pixels a side; a global average and one Linear follow. Other image sizes work
    too, each stage but the first halving the side (rounded up).

    Args:
        num_classes: number of logits.
        depth: weighted layers, 9 * n + 2 for n blocks a stage; shortcuts do not count.
        cardinality: groups of each 3x3 convolution.
        width: channels of one group in the first stage, doubled in each later one. The paper's 16x64d is
            cardinality 16 and width 64: with depth 29 and 100 classes 68,247,460 parameters.
        stem: channels of the stem. It sets the maps between blocks, as `width` sets those inside; the
            source has 64 for every width, small models want fewer.
        init: a scheme of `models.init`; "he_fan_out" is the source's.
        stem_stride: 1 in the paper; 2 halves every map, for small machines.

    Raises:
        ValueError: `depth` is not 9 * n + 2 with n at least 1, another number is below 1, or `init` is
            unknown.
    """

    def __init__(
        self,
        num_classes: int = 100,
        depth: int = 29,
        cardinality: int = 16,
        width: int = 64,
        stem: int = 64,
        init: str = "he_fan_out",
        stem_stride: int = 1,
    ):
        super().__init__()
        if depth < 11 or depth % 9 != 2:
            raise ValueError(f"depth={depth!r} must be 9 * n + 2 with n at least 1: 11, 20, 29, ...")
        sizes = {"num_classes": num_classes, "cardinality": cardinality, "width": width, "stem": stem,
                 "stem_stride": stem_stride}  # fmt: skip
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name}={value!r} must be at least 1")
        blocks = depth // 9
        self.conv1 = nn.Conv2d(3, stem, kernel_size=3, stride=stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = _stage(stem, 4 * stem, cardinality, width, blocks, stride=1)
        self.layer2 = _stage(4 * stem, 8 * stem, cardinality, 2 * width, blocks, stride=2)
        self.layer3 = _stage(8 * stem, 16 * stem, cardinality, 4 * width, blocks, stride=2)
        self.fc = nn.Linear(16 * stem, num_classes)
        initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _stage(
    channels_in: int, channels_out: int, cardinality: int, width: int, blocks: int, stride: int
) -> nn.Sequential:
    """`blocks` bottlenecks, of which the first carries the stride and the change of channels."""
    first = GroupedBottleneck(channels_in, channels_out, cardinality, width, stride)
    rest = [GroupedBottleneck(channels_out, channels_out, cardinality, width) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)
