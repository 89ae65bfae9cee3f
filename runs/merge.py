"""Merges run folders from another machine into this one's."""

import os
import shutil
import tempfile
from pathlib import Path

import yaml

from .files import locked, make_folder
from .identity import identity
from .run import Run, RunBusy
from .schema import ConfigError

# The files of a run. status.json comes last, since the run has not ended without it.
RECORDS = ("config.yaml", "log.txt", "checkpoint.previous.pt", "checkpoint.pt", "wandb", "metrics.csv", "status.json")
SCRATCH = ".merge-"


class Unfit(Exception):
    """A run that cannot be merged; the message says why."""


def merge(source: Path, runs: Path) -> tuple[list[str], bool]:
    """Copy every run below `source` that has come further than in `runs`, where it must not have ended.

    Returns a line for each run, and whether all could be used. Leaves out a run that is damaged, or whose config is not
    the one that its name stands for. Follows no symbolic links, and leaves W&B's files that lie elsewhere
    (`wandb.folder`) there. Raises ConfigError if there is no run in `source`.
    """
    folders = sorted(path.parent for path in source.glob("**/config.yaml") if (path.parent / "status.json").exists())
    if not folders:
        raise ConfigError(f"merge={source}: there is no run in it (a folder with config.yaml and status.json)")
    make_folder(runs)
    lines, fit = [], True
    with locked(runs):
        for leftover in runs.glob(f"{SCRATCH}*"):  # of a merge that was killed
            shutil.rmtree(leftover)
        for folder in folders:
            try:
                outcome = _merge_one(Run(folder), Run(runs / folder.name))
            except (Unfit, OSError) as error:
                outcome, fit = f"left out, {getattr(error, 'strerror', None) or error}", False
            lines.append(f"{folder.name}: {outcome}")
    return lines, fit


def _merge_one(theirs: Run, ours: Run) -> str:
    links = [name for name in RECORDS if name != "wandb" and (theirs.folder / name).is_symlink()]
    if links:
        raise Unfit(f"its {links[0]} is a symbolic link")
    try:
        computes = identity(yaml.safe_load((theirs.folder / "config.yaml").read_bytes()))
    except Exception as error:  # a damaged config can raise anything
        raise Unfit(f"its config cannot be read ({type(error).__name__})") from None
    if computes != theirs.id:
        raise Unfit("its config is not the one that its name stands for")
    if damaged := theirs.damaged():
        raise Unfit(f"its {damaged[0]} is damaged")
    data = [run.status().get("data") for run in (theirs, ours)]
    if None not in data and data[0] != data[1]:
        raise Unfit(f"it was trained on other data than the one here (fingerprints {data[0]} and {data[1]})")
    if ours.ended():
        return "already here"
    epochs = [run.status().get("epoch") or 0 for run in (theirs, ours)]
    if not theirs.ended() and ours.folder.exists() and epochs[0] <= epochs[1]:
        return "left out, it is not further than the one here"
    return _copy(theirs, ours)


def _copy(theirs: Run, ours: Run) -> str:
    """Copy the run beside its place, then move the copy into place while holding the lock: all of it or nothing."""
    with tempfile.TemporaryDirectory(dir=ours.folder.parent, prefix=SCRATCH) as beside:
        copy = Run(Path(beside) / theirs.name)
        copy.folder.mkdir()
        for name in RECORDS:
            path = theirs.folder / name
            if name == "wandb" and path.is_symlink():
                continue
            if path.is_dir():
                shutil.copytree(path, copy.folder / name, ignore=_links)
            elif path.exists():
                _copy_file(path, copy.folder / name)
        if damaged := copy.damaged():
            raise Unfit(f"its {damaged[0]} changed while it was copied")
        try:
            with ours.locked():
                for name in RECORDS:
                    target = ours.folder / name
                    if target.is_symlink():
                        target.unlink()
                    elif target.is_dir():
                        shutil.rmtree(target)
                    if (copy.folder / name).exists():
                        os.replace(copy.folder / name, target)
        except RunBusy:
            return "left out, it is being trained here"
    return "copied"


def _copy_file(path: Path, to: Path) -> None:
    with open(path, "rb") as source, open(to, "xb") as target:
        shutil.copyfileobj(source, target)
        target.flush()
        os.fsync(target.fileno())


def _links(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_symlink()]
