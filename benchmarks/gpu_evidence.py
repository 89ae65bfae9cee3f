"""What to do with a GPU for half an hour, without a network: `make gpu-evidence MINUTES=25`.

    python -m benchmarks.gpu_evidence --pack evidence.zip          at home, once: packs the data and the list of runs
    make gpu-evidence MINUTES=25 ARGS="--data evidence.zip"        on the GPU machine; rerun it to resume
    python sweep.py merge=evidence                                 at home: merges its runs into this machine's

Needs only torch, torchvision and numpy. First runs gpu-check, then whole runs of the paper's protocol, the most
decisive first, in bf16 and compiled unless stated otherwise. It works in pieces of at most nine minutes, each in its
own process, which saves its state. Copy the folder `evidence` (at most 60 MB) between machines: it has the records of
all runs, and as many checkpoints of unfinished runs as fit. Larger checkpoints stay in `evidence.scratch`; without that
folder such a run starts from the beginning elsewhere.
"""

import argparse
import copy
import functools
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from runs.files import write_json
from runs.run import Run, RunBusy

ROOT = Path(__file__).resolve().parent.parent
PIECE_SECONDS, LAST_SECONDS = 520, 30  # of a piece; and what saving may take
CHECK_SECONDS = 240
LIMIT_BYTES = 60e6
BESIDE = 6  # small runs at a time on one GPU
DATA = ("cifar-10-batches-py/*_batch*", "MNIST/raw/*-ubyte")
# What is trained, in this order: figure 1(a, b)'s winner and its rival; figure 4 with further seeds; the same in
# float32, which shows what the fast numerics change. settings: for python sweep.py.
RUNS = (
    ("alone", ["experiment=fig1ab", "numerics=fast", "optimizer=sgdm", "optimizer.lr=0.1"]),
    ("alone", ["experiment=fig1ab", "numerics=fast", "optimizer=powersgdm", "optimizer.lr=0.01",
               "optimizer.gamma=0.6"]),
    ("beside", ["experiment=fig4", "seeds=[3,4]"]),
    ("alone", ["experiment=fig1ab", "numerics=strict", "optimizer=sgdm", "optimizer.lr=0.1"]),
)  # fmt: skip


def pack(path: Path, data: Path) -> None:
    """Pack the data files unchanged (uint8; their MD5s are checked when they are read) and the configs of the runs."""
    from hydra import compose, initialize_config_dir

    from runs import cli

    cli.register()
    groups: list[dict] = []
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        for how, settings in RUNS:
            base = cli.plain(compose("train", [*settings, "wandb.mode=disabled", "progress=false"]))
            configs = [base] if how == "alone" else list(_points(settings, base))
            groups.append({"beside": BESIDE if how == "beside" else 1, "runs": configs})
    files = sorted(file for pattern in DATA for file in data.glob(pattern))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("runs.json", json.dumps(groups))
        for file in files:
            packed.write(file, f"data/{file.relative_to(data)}")
    print(f"{path}: {len(files)} files of data, {sum(len(group['runs']) for group in groups)} runs, "
          f"{path.stat().st_size / 1e6:.0f} MB, SHA-256 {_digest(path)[:16]}")  # fmt: skip


def _points(settings: list[str], base: dict):
    """The configs of an experiment's grid for each of its seeds. No setting may be interpolated from a varied one."""
    from hydra import compose

    from runs import cli
    from runs.identity import settled
    from sweeps.plan import grid_entries

    for _, groups, axes, _ in grid_entries(base):
        chosen = [
            *settings,
            "wandb.mode=disabled",
            "progress=false",
            *(f"{key}={name}" for key, name in groups.items()),
        ]
        composed = cli.plain(compose("train", chosen))
        for seed, *values in itertools.product(base["seeds"], *axes.values()):
            config = copy.deepcopy(composed) | {"seed": seed}
            for path, value in zip(axes, values, strict=True):
                *sections, last = path.split(".")
                functools.reduce(dict.__getitem__, sections, config)[last] = value
            yield settled(config)


def unpack(path: Path, scratch: Path) -> list[dict]:
    """Unpack the data to scratch/data; returns the groups of runs."""
    with zipfile.ZipFile(path) as packed:
        if not (scratch / "data").is_dir():
            packed.extractall(scratch / "unpacking")
            (scratch / "unpacking" / "data").mkdir(exist_ok=True)
            os.replace(scratch / "unpacking" / "data", scratch / "data")
        return json.loads(packed.read("runs.json"))


def piece(groups: list[dict], out: Path, scratch: Path, device: str, until: float) -> bool:
    """Train until the time `until`; returns whether nothing is left."""
    for group in groups:
        todo = [placed(config, scratch, device) for config in group["runs"]]
        todo = [config for config in todo if not Run.of(config).ended()]
        while todo and time.time() < until:
            lanes = [todo[number :: group["beside"]] for number in range(min(group["beside"], len(todo)))]
            workers = []
            for number, lane in enumerate(lanes):
                path = scratch / f"todo-{number}.json"
                path.write_text(json.dumps(lane))
                command = [sys.executable, "-m", "benchmarks.gpu_evidence", "--train", str(path), "--until", str(until)]
                workers.append(subprocess.Popen(command, cwd=ROOT))
            for worker in workers:
                worker.wait()
            before, todo = len(todo), [config for config in todo if not Run.of(config).ended()]
            if len(todo) == before:
                break  # they fail, or there was no time for one of them
        bring_out(out, scratch)
        if time.time() >= until:
            return False
    return True


def placed(config: dict, scratch: Path, device: str) -> dict:
    places = {"results": str(scratch), "runs": str(scratch / "runs"), "data_dir": str(scratch / "data")}
    return config | places | {"device": device}


def train(path: Path, until: float) -> None:
    """Train the runs of a list one after the other; at `until` the current one saves its state."""
    from runs.interrupt import Interrupted
    from runs.schema import build
    from training.execute import execute

    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    for config in json.loads(path.read_text()):
        left = int(until - time.time())
        if left < 1:
            return
        signal.alarm(left)
        try:
            run = execute(build(config))
            print(f"{run.name}: {run.status()['state']}, epoch {run.status()['epoch']}", flush=True)
        except RunBusy:
            continue
        except Interrupted:
            return
        except Exception as error:  # it is noted in the run's log; the others go on
            print(f"{Run.of(config).name}: {type(error).__name__}: {error}", flush=True)
        finally:
            signal.alarm(0)


def bring_out(out: Path, scratch: Path) -> None:
    """Copy to `out` the records of all runs and the smallest checkpoints of unfinished ones."""
    (out / "runs").mkdir(parents=True, exist_ok=True)
    checkpoints = []
    for folder in sorted((scratch / "runs").glob("*/")):
        run = Run(folder)
        if not run.status():
            continue
        copy = out / "runs" / folder.name
        fresh = out / f".{folder.name}"
        shutil.rmtree(fresh, ignore_errors=True)
        records = [
            path for path in folder.iterdir() if path.name in ("config.yaml", "metrics.csv", "status.json", "log.txt")
        ]
        fresh.mkdir()
        for path in records:
            shutil.copy2(path, fresh)
        if not run.ended() and (folder / "checkpoint.pt").exists():
            checkpoints.append((folder / "checkpoint.pt", copy))
        shutil.rmtree(copy, ignore_errors=True)
        os.replace(fresh, copy)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    for checkpoint, copy in sorted(checkpoints, key=lambda pair: pair[0].stat().st_size):
        size += checkpoint.stat().st_size
        if size <= LIMIT_BYTES:
            shutil.copy2(checkpoint, copy)
        else:  # nothing that says it came further than it can go on from
            shutil.rmtree(copy)


def bring_in(out: Path, scratch: Path) -> None:
    """Copy in the runs from another machine that have come further than here."""
    for folder in sorted((out / "runs").glob("*/")):
        here = scratch / "runs" / folder.name
        if not here.exists() or len(Run(here).rows()) < len(Run(folder).rows()):
            shutil.rmtree(here, ignore_errors=True)
            shutil.copytree(folder, here)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, help="make this file, at home")
    parser.add_argument("--data", type=Path, default=ROOT / "evidence.zip", help="that file; with --pack the folder")
    parser.add_argument("--out", type=Path, default=ROOT / "evidence")
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--piece", type=float, default=PIECE_SECONDS, help="seconds of a piece")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--once", action="store_true", help="one piece, then leave")
    given = parser.parse_args()
    if given.train:
        return train(given.train, given.until)
    if given.pack:
        data = given.data if given.data.is_dir() else Path(os.environ.get("POWERSGD_DATA", ROOT / "downloads"))
        return pack(given.pack, data)
    if not given.data.is_file():
        parser.error(f"there is no {given.data}; at home: python -m benchmarks.gpu_evidence --pack {given.data}")
    scratch = given.out.with_name(given.out.name + ".scratch")
    until = time.time() + 60 * given.minutes
    scratch.mkdir(parents=True, exist_ok=True)
    groups = unpack(given.data, scratch)
    bring_in(given.out, scratch)
    over = False
    while not over and time.time() + LAST_SECONDS < until:
        end = min(until, time.time() + given.piece) - LAST_SECONDS
        if given.device == "cuda":
            check(given.out, min(CHECK_SECONDS, end - time.time()))
        over = piece(groups, given.out, scratch, given.device, end)
        ended = sum(Run(folder).ended() for folder in (given.out / "runs").glob("*/"))
        write_json(given.out / "state.json", {"ended": ended, "runs": sum(len(group["runs"]) for group in groups)})
        print(f"{ended} runs have ended; {given.out}", flush=True)
        if given.once:
            break


def check(out: Path, seconds: float) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--once", "--json", str(out / "gpu_check.json")]
    out.mkdir(parents=True, exist_ok=True)
    subprocess.run([*command, "--seconds", str(seconds)], cwd=ROOT, check=False)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
