"""A data set that fits in memory, held on the device as tensors: no worker processes, no copies."""

import hashlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor


def derived_seed(seed: int, *purpose) -> int:
    """A 63-bit seed for one purpose, such as ("order", 3); different purposes get independent seeds."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose) -> torch.Generator:
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


class TensorDataset:
    """Images and labels on one device, served in batches.

    images: uint8 [n, channels, height, width]; labels: int64 [n].
    mean, std: a value per channel for pixels scaled to [0, 1].
    shard: (rank, processes): serve this process's contiguous share of every batch.
    augment: `augment(images, draws) -> images` on uint8 batches, and `draw(n, generator) -> draws [n, ...]`.

    The order and augmentation of an epoch depend only on (seed, epoch) and are drawn on the CPU for any device: every
    optimizer with the same seed sees the same batches, and resuming needs only the position.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        num_classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        augment: Callable[[Tensor, Tensor], Tensor] | None = None,
        draw: Callable[[int, torch.Generator], Tensor] | None = None,
        device: torch.device | str = "cpu",
        shard: tuple[int, int] = (0, 1),
    ):
        self.images = images.to(device)
        self.labels = labels.to(device)
        self.num_classes = num_classes
        # One multiply-add for "scale to [0, 1], subtract the mean, divide by std".
        means, stds = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
        self.scale = (1 / (255 * stds)).to(device)
        self.shift = (-means / stds).to(device)
        self.augment, self.draw = augment, draw
        self.shard = shard

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.images.shape
        return channels, height, width

    def epoch(self, seed: int, epoch: int, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled, augmented batches (float32 [b, c, h, w], int64 [b]) of one epoch, from step `start` on."""
        device = self.labels.device
        order = torch.randperm(len(self), generator=generator(seed, "order", epoch)).to(device)
        draws = None
        if self.augment is not None and self.draw is not None:
            draws = self.draw(len(self), generator(seed, "augmentation", epoch)).to(device)
        for begin in range(start * batch_size, len(self), batch_size):
            part = self._share(begin, batch_size)
            chosen = order[part]
            images = self.images.index_select(0, chosen)  # on a CPU many times faster than self.images[chosen]
            if self.augment is not None and draws is not None:
                images = self.augment(images, draws[part])
            yield self.normalised(images), self.labels[chosen]

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, not augmented: for evaluation."""
        for begin in range(0, len(self), batch_size):
            part = self._share(begin, batch_size)
            yield self.normalised(self.images[part]), self.labels[part]

    def _share(self, begin: int, batch_size: int) -> slice:
        rank, processes = self.shard
        size = min(batch_size, len(self) - begin)
        return slice(begin + size * rank // processes, begin + size * (rank + 1) // processes)

    def normalised(self, images: Tensor) -> Tensor:
        return images.float().mul_(self.scale).add_(self.shift)


def fingerprint(*tensors: Tensor) -> str:
    """The SHA-256 of the tensors' contents, in hex."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.contiguous().numpy().data)
    return found.hexdigest()


def balanced_subset(labels: Tensor, size: int, num_classes: int, purpose: str = "subset") -> Tensor:
    """Indices of a fixed subset with equally many images of each class (give or take one), in the original order.

    labels: int64 [n]. Returns int64 [size]; each purpose has its own subset. Raises ValueError if there are too few.
    """
    if not 0 < size <= len(labels):
        raise ValueError(f"a subset of {size} images cannot be taken from {len(labels)}")
    chosen = []
    for label in range(num_classes):
        want = size // num_classes + (label < size % num_classes)
        members = (labels == label).nonzero().flatten()
        if len(members) < want:
            raise ValueError(f"class {label} has {len(members)} images, a balanced subset of {size} needs {want}")
        # The same images for every run: the subset belongs to the data set, not to the seed.
        chosen.append(members[torch.randperm(len(members), generator=generator(0, purpose, label))[:want]])
    return torch.cat(chosen).sort().values


def hold_out(labels: Tensor, size: int, num_classes: int) -> tuple[Tensor, Tensor]:
    """(indices of the others, indices of `size` images held out): fixed, balanced, each in the original order.

    Raises ValueError if the data set is too small.
    """
    if size >= len(labels):
        raise ValueError(f"{size} images held out of {len(labels)} leave none to train on")
    held = balanced_subset(labels, size, num_classes, "validation")
    others = torch.ones(len(labels), dtype=torch.bool)
    others[held] = False
    return others.nonzero().flatten(), held
