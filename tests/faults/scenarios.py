"""What the faults are done to: each scenario prepares a folder, acts in it, and says what must come out."""

import copy
import hashlib
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from analysis import records, style
from figures import recipe
from report.page import inline
from runs import archive, cli, sums
from runs.files import write_atomically, write_text
from runs.identity import identity, science
from runs.interrupt import MESSAGE, Interrupted
from runs.merge import merge
from runs.run import Run
from tests.helpers import composed, outcome
from training import checkpoint
from training.execute import execute

from .harness import child, program

SMALL = ("dataset=synthetic", "dataset.image_shape=[3,8,8]", "dataset.subset=60", "dataset.test_subset=30",
         "batch_size=20", "epochs=2", "seed=3", "wandb.mode=disabled", "progress=false", "device=cpu")  # fmt: skip
MLP = (*SMALL, "model=mlp", "model.depth=3", "model.width=8", "optimizer=powersgdm")
CNN = (*SMALL, "model=resnet50", "tier=smoke", "dataset.augment=crop_flip",
       "schedule=warm_restarts", "schedule.first=1", "precision=fp16", "optimizer=sgdm")  # fmt: skip


@dataclass(frozen=True)
class Scenario:
    name: str
    prepare: Callable[[Path], None]
    act: Callable[[Path], object]  # as a program does: errors end it in one line
    came_out: Callable[[Path], object]  # equal, bit for bit, however often it was disturbed


def the_run(folder: Path) -> Run:
    (found,) = [path for path in (folder / "runs").glob("*/") if not path.name.startswith(".")]
    return Run(found)


def run_of(arguments: tuple[str, ...], name: str, ahead: bool = False) -> Scenario:
    """Without Hydra, which takes longer than the run; errors end it as they end train.py.

    ahead: the first checkpoint's thread waits, a second at most, for the rows of two more epochs.
    """
    settings = cli.typed(composed(*arguments))

    def act(folder: Path) -> None:
        if ahead:
            checkpoint.save = behind(checkpoint.save)
        config = copy.deepcopy(settings)
        config.results, config.runs = str(folder), str(folder / "runs")
        try:
            execute(config)
        except (Interrupted, KeyboardInterrupt) as stop:
            print(MESSAGE, file=sys.stderr)
            sys.exit(128 + getattr(stop, "signal", signal.SIGINT))
        except cli.ERRORS as error:
            cli.leave(error)

    return Scenario(name, lambda folder: None, act, lambda folder: bits(outcome(the_run(folder))))


def behind(save: Callable) -> Callable:
    def waiting(run: Run, state: dict) -> None:
        until = time.monotonic() + 1
        while state["epoch"] == 1 and len(run.rows()) < 3 and time.monotonic() < until:
            time.sleep(0.001)
        save(run, state)

    return waiting


def bits(value: object) -> str:
    """A digest of plain values and tensors; nan equals nan."""
    found = hashlib.sha256()

    def add(value) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                found.update(repr(key).encode())
                add(part)
        elif isinstance(value, (list, tuple)):
            for part in value:
                add(part)
        elif hasattr(value, "numpy"):
            found.update(repr((value.dtype, value.shape)).encode() + value.numpy().tobytes())
        else:
            found.update(repr(value).encode())

    add(value)
    return found.hexdigest()


def files(folder: Path) -> dict[str, str]:
    """The digest of every file but leftovers of a killed write, which the next write of a name may leave behind."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(".tmp")}  # fmt: skip


def plan_of(runs: Path) -> dict:
    entries = []
    for folder in sorted(runs.glob("*/")):
        config = yaml.safe_load((folder / "config.yaml").read_bytes())
        assert identity(config) == Run(folder).id
        entries.append({"folder": str(folder), "label": config["optimizer"]["name"], "stage": "grid",
                        "config": science(config)})  # fmt: skip
    return {"experiment": "trial", "tier": "smoke", "changes": [], "runs": entries}


def archived(finished: Path) -> Scenario:
    """finished: a results folder with runs."""

    def prepare(folder: Path) -> None:
        shutil.copytree(finished / "runs", folder / "runs")

    def act(folder: Path) -> None:
        records.command(lambda: archive.export(plan_of(folder / "runs"), folder / "smoke" / "archive"))

    def came_out(folder: Path) -> object:
        assert not sums.damaged(folder / "smoke" / "archive")
        return files(folder / "smoke" / "archive")

    return Scenario("an archive", prepare, act, came_out)


def figure(results: Path) -> Scenario:
    """Figure 2's, over committed ones."""
    drawn = recipe.all_figures()["fig2"]
    made = drawn.make(*records.collect(results, "paper", "fig2", redraw=True))  # each child has it by its fork

    def prepare(folder: Path) -> None:
        for path in (results / "paper").glob("figure2.*"):
            write = sums.write if path.suffix in sums.SUFFIXES else write_atomically
            write(folder / path.name, b"the one before\n")
        style.write_json(folder / style.CAPTIONS, {"figure1": "of another"})

    def act(folder: Path) -> None:
        records.command(lambda: recipe.draw(recipe.Figure(drawn.about, lambda: made), folder, "", True))

    def came_out(folder: Path) -> object:
        assert not sums.damaged(folder)
        return files(folder)

    return Scenario("a figure", prepare, act, came_out)


def merged(finished: Path) -> Scenario:
    def act(folder: Path) -> None:
        records.command(lambda: merge(finished / "runs", folder / "runs"))

    def came_out(folder: Path) -> object:
        assert not list((folder / "runs").glob(".merge-*"))
        return {path.name: bits(outcome(Run(path))) for path in sorted((folder / "runs").glob("*/"))}

    return Scenario("a merge", lambda folder: None, act, came_out)


def report(results: Path) -> Scenario:
    """A page with a picture in it, over the one before."""

    def prepare(folder: Path) -> None:
        for name in ("figure2.svg", "figure2.png", sums.NAME):
            folder.mkdir(exist_ok=True)
            shutil.copy(results / "paper" / name, folder / name)
        (folder / "report.html").write_text("the one before\n")

    def act(folder: Path) -> None:
        def write() -> None:
            write_text(
                folder / "report.html", f"<html>{inline(folder / 'figure2.svg', 'figure2-', 'a figure')}</html>\n"
            )
            write_text(folder / "REPORT.md", "![figure2](figure2.svg)\n")

        records.command(write)

    return Scenario("a report", prepare, act, files)


def planned() -> Scenario:
    def act(folder: Path) -> None:
        program("sweep", "experiment=fig2", "plan=true", "archive=true", f"results={folder}")()

    return Scenario("a plan's costs", lambda folder: None, act, lambda folder: files(folder / "paper"))


def finished_runs(folder: Path) -> Path:
    """A results folder with two finished runs."""
    for seed in (3, 4):
        done = child(program("train", *MLP, f"seed={seed}", f"results={folder}"))
        assert done.status == 0, done
    return folder
