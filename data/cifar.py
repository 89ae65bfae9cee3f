"""CIFAR-10 and CIFAR-100 in torchvision's folder layout, downloaded if missing, verified unless it is a mirror's."""

import codecs
import hashlib
import http.client
import os
import pickle
import tarfile
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from .errors import DataError


class Source(NamedTuple):
    folder: str
    classes: int
    labels: str  # the key of the labels in a batch file
    train: dict[str, str]  # file -> MD5, as torchvision has them
    test: dict[str, str]


SOURCES = {
    "cifar10": Source(
        folder="cifar-10-batches-py",
        classes=10,
        labels="labels",
        train={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        test={"test_batch": "40351d587109b95175f43aff81a1287e"},
    ),
    "cifar100": Source(
        folder="cifar-100-python",
        classes=100,
        labels="fine_labels",
        train={"train": "16019d7e3df5f24257cddd939b257f8d"},
        test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    ),
}


def load(root: str | Path, train: bool, *, name: str, verify: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Images uint8 [n, 3, 32, 32] and labels int64 [n] of a split, in the order of the files.

    name: "cifar10" or "cifar100" (its 100 fine labels). Downloads missing files to `root` first.
    verify: require the MD5s of the original archive; False also reads a mirror's files and warns that they differ.
    Raises DataError if the files cannot be downloaded or read.
    """
    folder, source = fetch(root, name, verify), SOURCES[name]
    parts = [_read(folder / file, source) for file in (source.train if train else source.test)]
    images, labels = (torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*parts, strict=True))
    return images.view(-1, 3, 32, 32), labels


def fetch(root: str | Path, name: str, verify: bool = True) -> Path:
    """The folder in torchvision's layout below `root`, with all batch files, downloaded if missing and verified."""
    source = SOURCES[name]
    folder, files = Path(root) / source.folder, source.train | source.test
    missing = [file for file in files if not (folder / file).exists()]
    changed = [file for file in files if file not in missing and _md5(folder / file) != files[file]]
    if changed and verify:
        raise DataError(
            f"{folder / changed[0]} is damaged or a mirror's (its MD5 is not {files[changed[0]]}); delete {folder} "
            f"to fetch it again, or set dataset.verify=false to use it as it is"
        )
    if missing:
        _download(name, folder, missing)
    if changed:
        warnings.warn(f"{folder} differs from the original archive and is used because verify=false", stacklevel=2)
    return folder


def files(root: str | Path) -> dict[Path, str]:
    """Every existing file of both data sets, with the MD5 that it must have."""
    found = {Path(root) / source.folder / name: md5 for source in SOURCES.values()
             for name, md5 in (source.train | source.test).items()}  # fmt: skip
    return {path: md5 for path, md5 in found.items() if path.exists()}


def _download(name: str, folder: Path, missing: list[str]) -> None:
    from torchvision import datasets

    source, publisher = SOURCES[name], {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    root = folder.parent
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix="fetching-") as scratch:
            datasets.utils.download_and_extract_archive(
                publisher.url, scratch, filename=publisher.filename, md5=publisher.tgz_md5
            )
            # Moved only when all are right, so that a broken download leaves nothing behind.
            for file in missing:
                if _md5(Path(scratch) / source.folder / file) != (source.train | source.test)[file]:
                    raise OSError(f"wrong MD5 of {file}")
            folder.mkdir(exist_ok=True)
            for file in missing:
                os.replace(Path(scratch) / source.folder / file, folder / file)
    except (OSError, RuntimeError, EOFError, tarfile.TarError, http.client.HTTPException) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(
            f"{folder} lacks {', '.join(missing)} and {publisher.url} could not be fetched ({reason}); unpack "
            f"{publisher.filename} into {root} by hand (with dataset.verify=false for a mirror's files)"
        ) from None


def _read(path: Path, source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Rows uint8 [n, 3072] and labels int64 [n] of one batch file."""
    try:
        with open(path, "rb") as file:
            batch = _Unpickler(file, encoding="latin1").load()
        rows, labels = batch["data"], np.asarray(batch[source.labels], dtype=np.int64)
    except Exception as error:  # a damaged pickle can raise anything
        reason = next(iter(str(error).splitlines()), "")[:100]
        raise DataError(f"{path} cannot be read as a batch of CIFAR ({type(error).__name__}: {reason})") from None
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape != (len(labels), 3072):
        raise DataError(f"{path} does not hold a row of 3072 bytes for each of its {len(labels)} labels")
    if not len(labels) or labels.min() < 0 or labels.max() >= source.classes:
        raise DataError(f"{path} holds labels outside 0..{source.classes - 1}, or none")
    return rows, labels


# What a batch file may name. numpy's functions that rebuild arrays are taken from numpy, which has moved its modules.
_KNOWN = {
    "_codecs.encode": lambda text, encoding: codecs.encode(text, "latin1"),  # bytes, written by Python 3 as Python 2
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "multiarray._reconstruct": np.empty(0).__reduce__()[0],
    "numeric._frombuffer": np.empty(0).__reduce_ex__(5)[0],
}


class _Unpickler(pickle.Unpickler):
    """Rebuilds numpy arrays and plain containers; a pickle that names anything else is refused, not run."""

    def find_class(self, module: str, name: str):
        key = f"{module.removeprefix('numpy.core.').removeprefix('numpy._core.')}.{name}"
        if key not in _KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _KNOWN[key]


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
