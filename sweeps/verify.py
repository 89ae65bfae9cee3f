"""`sweep.py verify=true`: checks every file of the suite, and restores what a checkpoint can restore.

A run's records are checked against the digests in its status.json, its config against its name, its checkpoints
against their checksums; tables and pictures against SHA256SUMS, JSON files against the digest in each; data files
against the MD5s of their archives.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import yaml

from data import cifar, mnist
from runs import archive, sums, table
from runs.files import read_json
from runs.identity import digest, identity
from runs.run import Run
from runs.schema import ConfigError
from training import checkpoint

INTACT, REPAIRED, DAMAGED = "intact", "repaired", "damaged"
JSON = ("calibration.json", "networks.json", "gpu_check*.json", "captions.json", "*/captions.json", "*/costs.json",
        "*/plan-*.json", "theory/provenance.json")  # fmt: skip
Found = Iterator[tuple[str, str]]  # the state of a thing, and a message about it


def verify(results: Path, runs: Path, data_dir: Path) -> tuple[list[str], bool]:
    """A line for each thing that is not intact, one for each kind of thing, and whether nothing is damaged."""
    lines, sound = [], True
    kinds = {
        "runs": _runs(runs),
        "tables and pictures": _listed(results),
        "archived runs": _archived(results),
        "plans and other JSON": _json(results),
        "data files": _data(data_dir),
    }
    for kind, found in kinds.items():
        counted: Counter[str] = Counter()
        for state, about in found:
            counted[state] += 1
            lines += [f"{state}: {about}"] if about else []
        lines.append(f"{kind}: " + ", ".join(f"{counted[state]} {state}" for state in (INTACT, REPAIRED, DAMAGED)))
        sound &= not counted[DAMAGED]
    return lines, sound


def _runs(runs: Path) -> Found:
    for folder in sorted(path for path in runs.glob("*/") if not path.name.startswith(".")):
        run = Run(folder)
        if run.busy():
            yield INTACT, ""
            continue
        repaired = _restore_rows(run)
        problems = list(_problems(run))
        if problems:
            yield DAMAGED, f"{folder}: {'; '.join(problems)}"
        elif repaired:
            yield REPAIRED, f"{folder / 'metrics.csv'}, from the checkpoint"
        else:
            yield INTACT, ""


def _restore_rows(run: Run) -> bool:
    """Restore metrics.csv from the checkpoint if it is damaged; returns whether it was and now is not."""
    damaged = run.damaged() == ["metrics.csv"]
    if not damaged and not run.ended():
        try:
            run.rows()
        except table.TableError:
            damaged = True
    state = checkpoint.intact(run)[0] if damaged else None
    if state is None:
        return False
    with run.locked():
        run.write_rows(state["history"])
    return not run.damaged()


def _problems(run: Run) -> Iterator[str]:
    for name in run.damaged():
        yield f"{name} is not what was written; rerun its command, or move the folder away to train from the start"
    config = run.folder / "config.yaml"
    try:
        if config.exists() and identity(yaml.safe_load(config.read_bytes())) != run.id:
            yield "config.yaml is not the config that the folder's name stands for; move the folder away"
    except Exception as error:  # a damaged config can raise anything
        yield f"config.yaml cannot be read ({type(error).__name__}); delete it and rerun its command"
    for path, reason in checkpoint.intact(run)[1].items():
        yield f"{path.name} is damaged ({reason}); rerun its command, or delete the file if the run has ended"


def _listed(results: Path) -> Found:
    for folder in (results, *sorted(results.glob("*/")), *sorted(results.glob("*/archive/"))):
        if folder.name in ("runs", "reruns") or not folder.is_dir():
            continue
        try:
            damaged = sums.damaged(folder)
            whole = len(sums.files(folder)) - len(damaged)
        except ConfigError as error:
            damaged, whole = {str(error): ""}, 0
        yield from [(INTACT, "")] * max(0, whole)
        yield from ((DAMAGED, f"{folder / name} {problem} {sums.NAME}" if problem else name)
                    for name, problem in damaged.items())  # fmt: skip


def _archived(results: Path) -> Found:
    for folder in sorted(results.glob("*/archive/")):
        for name in archive.experiments(folder):
            try:
                kept = {run["run"] for run in archive.read(folder, name)[0] if run["state"] != archive.MISSING}
                for run in table.read(folder / f"{name}-runs.csv"):
                    about = f"{folder}/{name}: run {run['run']}"
                    if run["state"] != archive.MISSING and run["run"] not in kept:
                        yield DAMAGED, f"{about} lacks epochs; it counts as missing"
                    elif digest(run["config"]) != run["run"]:
                        yield DAMAGED, f"{about} does not belong to the config beside it"
                    else:
                        yield INTACT, ""
            except (ConfigError, LookupError, TypeError, OSError) as error:
                yield DAMAGED, f"{folder}/{name} cannot be read: {error}"


def _json(results: Path) -> Found:
    for path in sorted(path for pattern in JSON for path in results.glob(pattern)):
        try:
            read_json(path, "write it again")
            yield INTACT, ""
        except (ConfigError, OSError) as error:
            yield DAMAGED, str(error)


def _data(data_dir: Path) -> Found:
    for path, md5 in (mnist.files(data_dir) | cifar.files(data_dir)).items():
        with open(path, "rb") as file:
            same = hashlib.file_digest(file, "md5").hexdigest() == md5
        yield (INTACT, "") if same else (DAMAGED, f"{path}: its MD5 is not {md5}; delete it to fetch it again")
