"""ImageNet from its usual folder tree: decoded and augmented in worker processes, normalised on the device."""

import copy
import hashlib
import io
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .augment import centre_view, random_view
from .errors import DataError
from .tensors import balanced_subset, generator

try:
    import simplejpeg
except ImportError:  # Pillow decodes to the same pixels, in 1.4 times the time (benchmarks/imagenet_decode.py)
    simplejpeg = None

Batches = Iterator[tuple[Tensor, Tensor]]


class ImageFolderDataset:
    """The images of root/train or root/val, a folder for each class, served like a TensorDataset.

    Training gets random_view, testing centre_view (data/augment.py), `size` pixels square.
    mean, std: a value per channel for pixels scaled to [0, 1].
    subset: this many images, balanced over the classes.
    workers: processes that decode; 0 decodes in this process.
    shard: (rank, world) serves the rank's contiguous part of each batch; batch sizes are those of all ranks together.
    on_error: "fail" raises DataError at a broken image, "skip" uses the next readable one of its class instead.
    broken: {path: reason} of those found so far.

    The order and each image's augmentation depend only on (seed, epoch, image): the same bits in every run and for any
    number of workers. Raises DataError if the tree is missing or its classes are not as expected.
    """

    def __init__(
        self,
        root: str | Path,
        train: bool,
        *,
        num_classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        size: int = 224,
        subset: int | None = None,
        workers: int = 2,
        shard: tuple[int, int] = (0, 1),
        on_error: str = "fail",
        device: torch.device | str = "cpu",
    ):
        if on_error not in ("fail", "skip"):
            raise ValueError(f"on_error is {on_error!r}, must be 'fail' or 'skip'")
        self.folder, paths, labels = _scan(Path(root), "train" if train else "val", num_classes)
        try:
            chosen = torch.arange(len(labels)) if subset is None else balanced_subset(labels, subset, num_classes)
        except ValueError as error:
            key = "subset" if train else "test_subset"
            raise DataError(f"dataset.{key}={subset}: {error}") from None
        # One array of bytes, since each worker would end up with its own copy of a list of a million strings.
        self.paths, self.labels = np.array(paths)[chosen.numpy()], labels[chosen]
        self.num_classes, self.size, self.workers = num_classes, size, workers
        self.shard, self.on_error, self.device = shard, on_error, torch.device(device)
        self.broken: dict[str, str] = {}
        means, stds = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
        self.scale = (1 / (255 * stds)).to(device)
        self.shift = (-means / stds).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return 3, self.size, self.size

    def fingerprint(self) -> str:
        """The SHA-256 of the images' names and labels, in hex; reading every image would take hours."""
        found = hashlib.sha256(self.labels.numpy().data)
        found.update(self.paths.tobytes())
        return found.hexdigest()

    def select(self, indices: Tensor) -> "ImageFolderDataset":
        """The same data set with only these images: int64 [n]."""
        part = copy.copy(self)
        part.paths, part.labels, part.broken = self.paths[indices.numpy()], self.labels[indices], {}
        return part

    def epoch(self, seed: int, epoch: int, batch_size: int, start: int = 0) -> Batches:
        """Shuffled, augmented batches (float32 [b, 3, size, size], int64 [b]) of one epoch, from step `start` on."""
        order = torch.randperm(len(self), generator=generator(seed, "order", epoch)).numpy()
        return self._served(order[start * batch_size :], batch_size, (seed, epoch))

    def batches(self, batch_size: int) -> Batches:
        """All images in order, not augmented, for evaluation. With "skip" a substitute replaces a broken one."""
        return self._served(np.arange(len(self)), batch_size, None)

    def _served(self, order: np.ndarray, batch_size: int, augmentation: tuple[int, int] | None) -> Batches:
        rank, world = self.shard
        whole = [order[begin : begin + batch_size] for begin in range(0, len(order), batch_size)]
        loader = DataLoader(
            _Pictures(self, augmentation),
            batch_sampler=[part[len(part) * rank // world : len(part) * (rank + 1) // world] for part in whole],  # pyright: ignore[reportArgumentType]
            num_workers=self.workers,
            collate_fn=_as_it_is,
            worker_init_fn=_obey_only_the_parent,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # otherwise it would use the global one, whose state belongs to the run
        )
        for images, labels in _copied_ahead(self._sound(loader), self.device):
            yield images.float().mul_(self.scale).add_(self.shift), labels

    def _sound(self, loader: DataLoader) -> Batches:
        for batch in loader:
            if isinstance(batch, DataError):
                raise batch
            images, labels, broken = batch
            self.broken |= broken
            yield images, labels


class _Pictures(Dataset):
    """What the workers run: takes the indices of a batch, returns uint8 tensors."""

    def __init__(self, source: ImageFolderDataset, augmentation: tuple[int, int] | None):
        self.folder, self.paths, self.labels = source.folder, source.paths, source.labels.numpy()
        self.size, self.skip, self.augmentation = source.size, source.on_error == "skip", augmentation

    def __getitems__(self, indices: np.ndarray) -> tuple[Tensor, Tensor, dict[str, str]] | DataError:
        images, broken = torch.empty(len(indices), 3, self.size, self.size, dtype=torch.uint8), {}
        try:
            for image, index in zip(images, indices.tolist(), strict=True):
                picture = self._picture(index, broken)
                if self.augmentation is None:
                    image.copy_(centre_view(picture, self.size))
                else:
                    seed, epoch = self.augmentation
                    image.copy_(random_view(picture, self.size, generator(seed, "augmentation", epoch, index)))
        except DataError as error:
            return error  # raised by the parent: a DataLoader would bury it in the worker's traceback
        return images, torch.from_numpy(self.labels[indices]), broken

    def _picture(self, index: int, broken: dict[str, str]) -> Tensor:
        for candidate in self._candidates(index):
            path = self.folder / os.fsdecode(self.paths[candidate])
            try:
                content = path.read_bytes()
            except OSError as error:  # never skipped: this is the disk's fault, not the image's
                raise DataError(f"{path} cannot be read ({error.strerror})") from None
            try:
                return decode(content)
            except ValueError as error:
                if not self.skip:
                    raise DataError(f"{path} is broken ({error}); replace it or set dataset.on_error=skip") from None
                broken[str(path)] = str(error)
        raise DataError(f"{path.parent} holds no readable picture")

    def _candidates(self, index: int) -> Iterator[int]:
        yield index
        members = np.flatnonzero(self.labels == self.labels[index])
        yield from np.roll(members, -np.searchsorted(members, index))[1:]


def decode(content: bytes) -> Tensor:
    """An encoded image as uint8 [3, h, w], converted to RGB. Raises ValueError if it is broken."""
    if simplejpeg is not None:
        try:
            if simplejpeg.decode_jpeg_header(content)[2] in ("YCbCr", "Gray", "RGB"):  # rounds CMYK otherwise
                return torch.from_numpy(simplejpeg.decode_jpeg(content, "RGB")).permute(2, 0, 1)
        except ValueError:
            pass  # Pillow judges, so that what is broken does not depend on what is installed
    from PIL import Image, UnidentifiedImageError  # not needed to import the suite on a machine without pictures

    try:
        return torch.from_numpy(np.array(Image.open(io.BytesIO(content)).convert("RGB"))).permute(2, 0, 1)
    except UnidentifiedImageError:
        raise ValueError("not a picture") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from None


def _scan(root: Path, split: str, num_classes: int) -> tuple[Path, list[bytes], Tensor]:
    """The split's folder, the paths in it as bytes and the labels int64 [n], both in sorted order."""
    folder = root / split
    advice = f"put the pictures of ImageNet's {split} set there as <class>/*.JPEG, a folder for each class"
    if not folder.is_dir():
        raise DataError(f"{folder} is missing; {advice} (torchvision.datasets.ImageNet unpacks its archives like that)")
    classes = _names(folder, os.DirEntry.is_dir)
    if len(classes) != num_classes:
        raise DataError(f"{folder} has {len(classes)} class folders instead of {num_classes}; {advice}")
    other = root / ("val" if split == "train" else "train")
    if other.is_dir() and (odd := set(_names(other, os.DirEntry.is_dir)) ^ set(classes)):
        raise DataError(f"{folder} and {other} differ in their class folders: {', '.join(sorted(odd)[:5])}")
    paths, labels = [], []
    for label, name in enumerate(classes):
        pictures = _names(folder / name, lambda entry: entry.name.lower().endswith((".jpeg", ".jpg")))
        if not pictures:
            raise DataError(f"{folder / name} holds no JPEG; {advice}")
        paths += [os.fsencode(f"{name}/{picture}") for picture in pictures]
        labels += [label] * len(pictures)
    return folder, paths, torch.tensor(labels)


def _names(folder: Path, wanted: Callable[[os.DirEntry], bool]) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and wanted(entry))


def _copied_ahead(batches: Batches, device: torch.device) -> Batches:
    """The batches on the device; on CUDA each is copied while the one before is being processed."""
    if device.type != "cuda":
        for images, labels in batches:
            yield images.to(device), labels.to(device)
        return
    stream, waiting = torch.cuda.Stream(device), None
    for batch in batches:
        with torch.cuda.stream(stream):
            images, labels = (tensor.to(device, non_blocking=True) for tensor in batch)
            ahead = (images, labels), stream.record_event()
        if waiting:
            yield _arrived(*waiting)
        waiting = ahead
    if waiting:
        yield _arrived(*waiting)


def _arrived(batch: tuple[Tensor, Tensor], copied: torch.Event) -> tuple[Tensor, Tensor]:
    computing = torch.cuda.current_stream(batch[0].device)
    computing.wait_event(copied)
    for tensor in batch:
        tensor.record_stream(computing)  # its memory was taken on the copying stream
    return batch


def _obey_only_the_parent(_worker: int) -> None:
    # Ctrl-C and Slurm's SIGTERM reach every process, but the parent still needs the batches in progress. Only its own
    # SIGTERM, which it sends when it exits, must end the worker; hence the thread that sees who sent one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_await_sigterm, daemon=True).start()


def _await_sigterm() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _as_it_is(batch):
    return batch
