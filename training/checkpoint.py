"""A run's checkpoints: the latest and the one before, each either complete or absent."""

import _thread
import copy
import errno
import hashlib
import io
import os
import pickle
import weakref
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor

from runs.files import sync_folder, write_atomically
from runs.run import Run, RunError

NEWEST, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
DIGEST_BYTES = 32


def save(run: Run, state: dict) -> None:
    """Write `state` and the run's id as the latest checkpoint; the latest so far becomes the previous one.

    Raises RunError if the folder no longer belongs to this run, and OSError, for example on a full disk. After an
    OSError the old checkpoints are intact; the latest may already be stored as the previous one.
    """
    run.check_ours()
    buffer = io.BytesIO()
    torch.save(state | {"run": run.id}, buffer)
    buffer.write(hashlib.sha256(buffer.getbuffer()).digest())  # torch.load ignores trailing bytes
    newest = run.folder / NEWEST
    fresh = newest.with_suffix(".new")
    write_atomically(fresh, buffer.getbuffer())
    if newest.exists():
        os.replace(newest, run.folder / PREVIOUS)
    os.replace(fresh, newest)
    sync_folder(run.folder)


class Writer:
    """Saves states in a thread, one at a time, while training continues.

    If a write fails, the next `save` or `wait` raises its error. Leaving the block waits for the thread, because the
    run's lock is released afterwards. Raises OSError if there is no thread to be had.
    """

    def __init__(self, run: Run):
        self.run = run
        self.jobs: SimpleQueue[_Write | None] = SimpleQueue()
        self.writing: _Write | None = None

    def __enter__(self) -> "Writer":
        held = _Held()
        self.thread = weakref.ref(held)
        try:
            # threading's would wait for ever for one that finds no memory.
            _thread.start_new_thread(_serve, (self.jobs, held))
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, f"checkpoints cannot be written: {error}") from None
        return self

    def __exit__(self, *_) -> None:
        if self.writing:
            self.writing.finished()
        self.jobs.put(None)

    @property
    def idle(self) -> bool:
        return self.writing is None or not self.writing.going.locked() or self.thread() is None

    def save(self, state: dict) -> None:
        """Start saving the present state."""
        self.wait()
        self.writing = _Write(self.run, snapshot(state), self.thread)
        self.jobs.put(self.writing)

    def wait(self) -> None:
        """Wait until everything is on disk."""
        writing, self.writing = self.writing, None
        if writing and (error := writing.finished()):
            raise error


class _Held:
    """Held by the thread alone, so it is gone when the thread is, whatever ended it."""


class _Write:
    """One state to save. Nobody waits for a thread that found no memory: ending a write needs none."""

    def __init__(self, run: Run, state: dict, thread: "weakref.ref[_Held]"):
        self.run, self.thread = run, thread
        self.state: dict | None = state
        self.error: BaseException | None = None
        self.going = _thread.allocate_lock()
        self.going.acquire()

    def finished(self) -> BaseException | None:
        """Wait for its end; returns its error."""
        while not self.going.acquire(timeout=1):
            if self.thread() is None:
                return MemoryError("the thread that writes checkpoints found no memory")
        self.going.release()
        return self.error


def _serve(jobs: "SimpleQueue[_Write | None]", held: _Held) -> None:
    del held  # the thread's arguments keep it; this frame may live on in an error's traceback
    while job := jobs.get():
        try:
            save(job.run, job.state or {})
        except BaseException as error:
            job.error = error
        job.state = None  # its memory is free until the next
        job.going.release()


def snapshot(value: Any) -> Any:
    """A copy on the CPU, which later steps do not change."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        copied = copy.copy(value)  # of its own kind, with the versions that torch hangs on a model's state
        copied.update((key, snapshot(part)) for key, part in value.items())
        return copied
    if isinstance(value, (list, tuple)):
        return type(value)(map(snapshot, value))
    return value


def load(run: Run, restore: Callable[[dict], None] = lambda state: None) -> dict | None:
    """The latest undamaged state, on the CPU, or None if the run has no checkpoint yet.

    restore: called with the state; a state that it cannot load counts as damaged. Raises RunError if all checkpoints
    are damaged, or if one belongs to another run.
    """
    damaged = []
    for name in (NEWEST, PREVIOUS):
        path = run.folder / name
        if not path.exists():
            continue
        try:
            state = _read(path)
            if state.pop("run", run.id) != run.id:
                raise RunError(f"{path} is the checkpoint of another run; move it away")
            try:
                restore(state)
            except (LookupError, TypeError, ValueError, RuntimeError) as error:
                raise Damaged(f"it does not fit this run: {' '.join(str(error).split())[:100]}") from None
            for broken in damaged:  # otherwise the next save would replace this intact one with the damaged one
                os.replace(broken, broken.with_suffix(".damaged"))
            return state
        except Damaged as error:
            damaged.append(path)
            run.log(f"{name} is damaged ({error}); trying the previous one")
    if damaged:
        raise RunError(
            f"{damaged[0]} is damaged and there is no intact checkpoint before it; move {run.folder} away to "
            "train the run from the start"
        )
    return None


def prune(run: Run, keep: str) -> None:
    """Keep all checkpoints of an ended run ("all"), its weights and rows ("weights"), or nothing ("none").

    The caller holds the lock.
    """
    if keep == "weights" and (state := intact(run)[0]):
        save(run, {"model": state["model"], "history": state["history"]})
    for name in {"all": (), "weights": (PREVIOUS,), "none": (PREVIOUS, NEWEST)}[keep]:
        (run.folder / name).unlink(missing_ok=True)


def intact(run: Run) -> tuple[dict | None, dict[Path, str]]:
    """The latest intact state, and what is wrong with each damaged checkpoint. Only reads."""
    state, damaged = None, {}
    for path in (run.folder / NEWEST, run.folder / PREVIOUS):
        try:
            found = _read(path) if path.exists() else None
            state = state or found
        except Damaged as error:
            damaged[path] = str(error)
    return state, damaged


class Damaged(Exception):
    pass


def _read(path: Path) -> dict:
    # torch.load checks no checksum, so a flipped bit would go unnoticed.
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Damaged(f"it cannot be read: {error.strerror}") from None
    payload, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
        raise Damaged("its checksum is wrong")
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise Damaged(str(error).splitlines()[0]) from None
    if not isinstance(state, dict):
        raise Damaged("it does not contain a state")
    return state
