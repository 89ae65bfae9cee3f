"""Augmentation: CIFAR's images batch by batch, ImageNet's one by one.

Random numbers come from a seeded generator on the CPU, so they are the same for any device.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = 4
OFFSETS = 2 * PADDING + 1


def draw_crop_flip(n: int, generator: torch.Generator) -> Tensor:
    """int64 [n, 3]: rows down and columns right of the crop in the padded image (0..8 each), flip (0 or 1).

    All 9 * 9 * 2 outcomes are equally likely, as with torchvision's RandomCrop(size, padding=4) and
    RandomHorizontalFlip().
    """
    columns = [torch.randint(high, (n,), generator=generator) for high in (OFFSETS, OFFSETS, 2)]
    return torch.stack(columns, dim=1)


def crop_flip(images: Tensor, draws: Tensor) -> Tensor:
    """Pad with 4 zeros on each side, cut out each image's own window of the old size, then flip where drawn.

    images: uint8 [b, c, h, w]; draws: int64 [b, 3] of draw_crop_flip, on the same device. Returns a new contiguous
    uint8 [b, c, h, w]. Does not wait for the device.
    """
    b, c, h, w = images.shape
    down, right, flip = draws.unbind(dim=1)
    padded = F.pad(images, (PADDING,) * 4)
    row = w + 2 * PADDING
    plane = row * (h + 2 * PADDING)

    # A row of a crop is w neighbouring pixels of the padded batch, so a crop is a list of positions where its rows
    # begin. Copying whole rows was the fastest of a dozen ways on one CPU thread.
    sample = torch.arange(b, device=images.device)
    channel = torch.arange(c, device=images.device).view(-1, 1)
    line = torch.arange(h, device=images.device)
    first = (sample * (c * plane) + down * row + right).view(-1, 1, 1)
    begins = first + channel * plane + line * row
    rows = padded.reshape(-1).unfold(0, w, 1)  # a view: [k] is the w pixels from place k on
    crops = rows.index_select(0, begins.flatten()).view(b, c, h, w)

    # Choose whole images from both versions, because torch.where over pixels takes five times as long.
    return torch.cat([crops, crops.flip(3)]).index_select(0, sample + b * flip)


def random_view(picture: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """torchvision's RandomResizedCrop(size), then RandomHorizontalFlip(), with random numbers from `generator`.

    picture: uint8 [c, h, w]. Returns uint8 [c, size, size].
    """
    top, left, height, width = draw_box(picture.size(1), picture.size(2), generator)
    view = _resize(picture[:, top : top + height, left : left + width], size, size)
    return view.flip(2) if torch.rand(1, generator=generator) < 0.5 else view


def centre_view(picture: Tensor, size: int) -> Tensor:
    """Resize the short side to 8/7 of `size` (256 for 224), then crop the centre: torchvision's Resize and CenterCrop.

    picture: uint8 [c, h, w]. Returns uint8 [c, size, size].
    """
    height, width = picture.shape[1:]
    short = size * 8 // 7
    # Truncated, not rounded, as in torchvision.
    new = (short, int(short * width / height)) if height <= width else (int(short * height / width), short)
    top, left = (round((side - size) / 2) for side in new)
    return _resize(picture, *new)[:, top : top + size, left : left + size]


def draw_box(height: int, width: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """top, left, height, width of a random part: 8 to 100 % of the area, aspect 3/4 to 4/3 (log-uniform).

    Draws in the order of torchvision's RandomResizedCrop, so equally seeded generators give equal boxes.
    """
    low, high = (math.log(ratio) for ratio in (3 / 4, 4 / 3))
    for _ in range(10):
        area = height * width * torch.empty(1).uniform_(0.08, 1.0, generator=generator).item()
        aspect = torch.empty(1).uniform_(low, high, generator=generator).exp().item()
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(torch.randint(height - h + 1, (1,), generator=generator))
            left = int(torch.randint(width - w + 1, (1,), generator=generator))
            return top, left, h, w
    # Very rarely: the largest central part with an allowed aspect.
    h, w = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w


def _resize(picture: Tensor, height: int, width: int) -> Tensor:
    # torch's vectorised kernel works on interleaved channels; it would have to unpack a cropped part first.
    pixels = picture[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(pixels, (height, width), mode="bilinear", antialias=True)[0]
