"""A synthetic data set of any shape that a network can learn, for tests and trials without data."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .tensors import generator


def load(
    train: bool, *, image_shape: Sequence[int], num_classes: int, size: int = 1000, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Images uint8 [size, *image_shape] and labels int64 [size], with classes as balanced as `size` allows.

    image_shape: channels, height, width. An image is its class's smooth pattern plus noise of about the same strength;
    training and test images share the patterns and differ in noise. A pure function of the arguments.
    """
    channels, height, width = image_shape
    coarse = torch.randn(num_classes, channels, 3, 3, generator=generator(seed, "synthetic", "patterns"))
    # Smooth, so that the class remains recognisable if a crop shifts it by a few pixels.
    patterns = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
    patterns = (40 * patterns).to(torch.int16)

    split = generator(seed, "synthetic", "train" if train else "test")
    labels = (torch.arange(size) % num_classes)[torch.randperm(size, generator=split)]
    noise = torch.randint(-70, 71, (size, *image_shape), generator=split, dtype=torch.int16)
    images = noise.add_(patterns[labels]).add_(128).clamp_(0, 255)
    return images.to(torch.uint8), labels
