"""The state of a run in two generations, each whole or not there at all."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import torch

from .run import Run, RunError, sync_folder, write_atomically

NEWEST, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


def save(run: Run, state: dict) -> None:
    """Write `state` as the newest generation; the newest so far becomes the previous one.

    Raises OSError (a full disk, say) with both generations as they were, or the newest as the previous one.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    newest = run.folder / NEWEST
    fresh = newest.with_suffix(".new")
    write_atomically(fresh, buffer.getbuffer())
    if newest.exists():
        os.replace(newest, run.folder / PREVIOUS)
    os.replace(fresh, newest)
    sync_folder(run.folder)


def load(run: Run) -> dict | None:
    """The newest undamaged state on the CPU, or None if the run has none yet.

    Raises RunError if there are checkpoints and all of them are damaged.
    """
    damaged = []
    for name in (NEWEST, PREVIOUS):
        path = run.folder / name
        if not path.exists():
            continue
        try:
            return _read(path)
        except (OSError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
            damaged.append(path)
            run.log(f"{name} is damaged ({str(error).splitlines()[0]}); trying the one before")
    if damaged:
        raise RunError(
            f"{damaged[0]} is damaged and there is no intact one before it; move {run.folder} away to train the "
            "run anew"
        )
    return None


def _read(path: Path) -> dict:
    # torch.load does not look at the checksums of the zip it reads, so a flipped bit would pass.
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
    if broken:
        raise ValueError(f"wrong checksum of {broken}")
    return torch.load(path, map_location="cpu", weights_only=True)
