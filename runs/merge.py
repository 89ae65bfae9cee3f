"""Run folders from another machine, brought into this one's."""

import os
import shutil
import tempfile
from pathlib import Path

import yaml

from .identity import identity
from .run import Run, RunBusy
from .schema import ConfigError


def merge(source: Path, runs: Path) -> list[str]:
    """Copy every run below `source` that has not ended in `runs` and has come further there.

    Returns a line for each run. A folder whose config does not compute what its name says is left out. Raises
    ConfigError if there is no run in `source`.
    """
    folders = sorted(path.parent for path in source.glob("**/config.yaml") if (path.parent / "status.json").exists())
    if not folders:
        raise ConfigError(f"merge={source}: there is no run in it (a folder with config.yaml and status.json)")
    runs.mkdir(parents=True, exist_ok=True)
    return [f"{folder.name}: {_merge_one(Run(folder), Run(runs / folder.name))}" for folder in folders]


def _merge_one(theirs: Run, ours: Run) -> str:
    try:
        computes = identity(yaml.safe_load((theirs.folder / "config.yaml").read_text()))
    except (yaml.YAMLError, AttributeError, ValueError):
        return "left out, its config cannot be read"
    if computes != theirs.id:
        return "left out, its config is not what its name says"
    data = [run.status().get("data") for run in (theirs, ours)]
    if None not in data and data[0] != data[1]:
        return f"left out, it was trained on other data than the one here (fingerprints {data[0]} and {data[1]})"
    if ours.ended():
        return "already here"
    if not theirs.ended() and len(theirs.rows()) <= len(ours.rows()):
        return "left out, not further than the one here" if ours.folder.exists() else _copy(theirs, ours)
    return _copy(theirs, ours)


def _copy(theirs: Run, ours: Run) -> str:
    """Whole or not at all: a copy beside its place, moved into it while the lock is held."""
    with tempfile.TemporaryDirectory(dir=ours.folder.parent, prefix=".merge-") as beside:
        copy = Path(beside) / theirs.name
        shutil.copytree(theirs.folder, copy, ignore=shutil.ignore_patterns("lock", ".*.tmp"))
        try:
            with ours.locked():
                # status.json last: until it is there the run has not ended.
                for path in sorted(copy.iterdir(), key=lambda path: path.name == "status.json"):
                    target = ours.folder / path.name
                    if target.is_dir():
                        shutil.rmtree(target)
                    os.replace(path, target)
        except RunBusy:
            return "left out, it is being trained here"
    return "copied"
