"""ResNet-50 for ImageNet: torchvision's, the paper's model (section 4.2, Table 2)."""

from collections.abc import Sequence

from torchvision.models.resnet import Bottleneck, ResNet

from .init import initialise


class ResNetImageNet(ResNet):
    """torchvision's bottleneck ResNet, the model of pytorch/examples/imagenet (footnote 1).

    (N, 3, 224, 224) images give (N, num_classes) logits; any size from 32 x 32 up works. With the defaults
    it is `torchvision.models.resnet50()`, parameter names and all, with 25,557,032 parameters.

    Args:
        num_classes: number of logits.
        blocks: blocks in each of the four stages.
        width: torchvision's `width_per_group`: the channels of the first stage's 3x3 convolutions, doubled
            in each later stage. It narrows the inside of the bottlenecks only; the maps between them keep
            256, 512, 1024 and 2048 channels and the stem its 64.
        init: a scheme of `models.init`. "torch" leaves torchvision's own initialisation, which is
            "he_fan_out" and not that of torch's layers.

    Raises:
        ValueError: `blocks` are not four positive numbers, `num_classes` or `width` is below 1, or `init`
            is unknown.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        blocks: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        init: str = "torch",
    ):
        if len(blocks) != 4 or min(blocks) < 1:
            raise ValueError(f"blocks={blocks!r} must be four numbers, each at least 1")
        if num_classes < 1:
            raise ValueError(f"num_classes={num_classes!r} must be at least 1")
        if width < 1:
            raise ValueError(f"width={width!r} must be at least 1")
        super().__init__(Bottleneck, list(blocks), num_classes=num_classes, width_per_group=width)
        initialise(self, init)
