"""The state of a run in two generations, each whole or not there at all."""

import hashlib
import io
import os
import pickle
from pathlib import Path

import torch

from runs.files import sync_folder, write_atomically
from runs.run import Run, RunError

NEWEST, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
DIGEST_BYTES = 32


def save(run: Run, state: dict) -> None:
    """Write `state` as the newest generation; the newest so far becomes the previous one.

    Raises OSError (a full disk, say) with both generations as they were, or the newest as the previous one.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.write(hashlib.sha256(buffer.getbuffer()).digest())  # torch.load does not mind what follows
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
            state = _read(path)
            for broken in damaged:  # or the next save would put it in the place of this one
                os.replace(broken, broken.with_suffix(".damaged"))
            return state
        except Damaged as error:
            damaged.append(path)
            run.log(f"{name} is damaged ({error}); trying the one before")
    if damaged:
        raise RunError(
            f"{damaged[0]} is damaged and there is no intact one before it; move {run.folder} away to train the "
            "run anew"
        )
    return None


class Damaged(Exception):
    pass


def _read(path: Path) -> dict:
    # torch.load looks at no checksum, and a flipped bit would pass.
    content = path.read_bytes()
    payload, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
        raise Damaged("its checksum is wrong")
    try:
        return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise Damaged(str(error).splitlines()[0]) from None
