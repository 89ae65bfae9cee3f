"""Weights & Biases: every epoch is logged there, and no failure there can harm a run.

metrics.csv is the source of truth; W&B is a view of it (view.py, docs/wandb.md). `wandb.mode=auto` logs online if
there are credentials and the server answers, otherwise offline (`make sync` uploads later), and never asks anything.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runs.identity import science
from runs.run import Run
from runs.schema import Config

from . import view, wandb_session
from .wandb_files import Files
from .wandb_session import Mode, chosen_mode, deleted_there, offline, one_line, silent, start, trial, wandb_module

NO_GPU = ("cpu", "mps")


class Tracker:
    """One run on W&B. After a failure there it logs nothing more and says so in the run's log.

    say: called with a line that tells where to see the run.
    """

    def __init__(self, config: Config, run: Run, say: Callable[[str], None] = lambda line: None):
        self.config, self.run, self.say = config, run, say
        self.wandb: Any = None  # the run on W&B, as long as nothing has failed
        self.mode = Mode("disabled")
        self.rows: list[dict] = []
        self.first = 0  # earlier steps are on W&B already
        self.last = -1  # the latest step that was logged
        self.sums = [0.0, 0.0, 0.0]  # of the batches logged so far in this epoch: loss, correct, images

    def begin(self, environment: dict, memory: Callable[[], float] | None = None) -> None:
        """Start the run on W&B; called once data and device have been checked.

        memory: returns the peak memory use so far in gigabytes.
        """
        self.memory = memory
        self.mode = chosen_mode(self.config.wandb.mode)
        try:
            self._start(environment)
        except Exception as error:
            if self.mode.name == "online":
                self.mode = Mode("offline", f"online failed: {one_line(error)}")
                try:
                    wandb_module().teardown()  # otherwise its service keeps the id
                    self._start(environment)
                    return
                except Exception as second:
                    error = second
            self.run.log(f"W&B failed ({one_line(error)}); this run is logged on disk only")

    def _start(self, environment: dict) -> None:
        if self.mode.name == "disabled":
            return
        self.files = Files(self.run.folder)
        if self.config.wandb.folder:
            self.files.move_to(Path(self.config.wandb.folder) / self.run.name)
        id = trial() or self.files.id()
        if self.mode.name == "online" and self.files.unsent("offline-run", id):
            self.mode = Mode("offline", "an earlier part of this run waits for make sync")
        system = {"always": True, "never": False}.get(self.config.wandb.system, environment["device"] not in NO_GPU)
        about = self._about(environment)
        where = self.mode.name, self.run.folder, self.config.wandb, system
        try:
            started = start(about, id, *where)
        except Exception as error:
            if not deleted_there(error) or trial():
                raise
            id = self.files.new_id()
            started = start(about, id, *where, init_seconds=wandb_session.SECOND_INIT_SECONDS)
        held = self.files.rows(id) if self.mode.name == "offline" else {}
        if self.mode.name == "offline":
            self.first = max([*held, self.files.logged(id)]) + 1
        else:
            self.first = started.starting_step
        self.files.keep_id(id)
        self.wandb = started
        place = started.url if self.mode.name == "online" else offline(self.mode.why)
        self.run.log(f"W&B: {place}")
        self.say(f"W&B: {place}")

    def _about(self, environment: dict) -> view.About:
        config = asdict(self.config)
        computed = science(config)
        uses = view.uses(self.run.id, Path(self.config.results))
        tags, stage = list(uses), None
        if self.config.experiment:
            tags, stage = [self.config.experiment, *tags], uses.get(self.config.experiment)
        elif self.config.planned:  # by a sweep over a grid given on the command line
            stage = next(iter(uses.values()), None)
        job = view.job_type(config, stage, self.config.protocol.tune)
        return view.about(computed, environment, self.config.tier, tags, job)

    def log(self, row: dict) -> None:
        """Log an epoch's row of metrics, unless it is on W&B already."""
        if self.wandb is None:
            return
        self.rows.append(row)
        step, found = view.shown(row, self.config.batch_size)
        self.sums = [0.0, 0.0, 0.0]
        if step >= self.first:
            if self.memory:
                found["perf/memory_gb"] = self.memory()
            self._log(step, found)
            self._quietly("log", lambda run: run.summary.update(view.summaries(self.rows)))

    def batch(self, trainer) -> None:
        """Log loss and accuracy since the last such row, if `log_every` asks for it after this batch."""
        every, images, size = self.config.wandb.log_every, trainer.images, self.config.batch_size
        seen = trainer.step * size
        if self.wandb is None or not every or trainer.step % every or seen >= images:  # the epoch's row is to come
            return
        sums = trainer.sums[:3].tolist()
        loss, correct, counted = (now - before for now, before in zip(sums, self.sums, strict=True))
        self.sums = sums
        step = trainer.epoch * -(-images // size) + trainer.step
        axes = dict(zip(view.AXES, (trainer.epoch + seen / images, step, trainer.epoch * images + seen), strict=True))
        if step >= self.first:
            self._log(step, axes | dict(zip(view.BATCH, (loss / counted, correct / counted), strict=True)))

    def _log(self, step: int, found: dict) -> None:
        # With W&B's own step set, the server refuses rows that it already has.
        self._quietly("log", lambda run: run.log(found, step=step, commit=True))
        self.last = max(self.last, step)

    def finish(self, state: str, reason: str | None = None) -> None:
        """state: finished, diverged, interrupted or failed."""
        self._quietly("finish", lambda run: self._finish(run, state, reason))
        self.wandb = None

    def _finish(self, run, state: str, reason: str | None) -> None:
        run.summary.update(view.summaries(self.rows) | {"state": state, "reason": reason})
        # For an artifact W&B asks the server, and waits 20 seconds if it is down.
        if self.mode.name == "offline" or not silent(wandb_module().setup().settings.base_url):
            keep_files(run, self.run, self.config.wandb.artifacts)
        if state == "interrupted":
            run.mark_preempting()  # W&B shows it as preempted, and a W&B sweep asks for it again
        run.finish(exit_code=int(state in ("failed", "interrupted")))
        self.files.keep_logged(run.id, self.last)
        if self.mode.name == "online":
            self.files.mark_sent(run.id)

    def _quietly(self, what: str, call) -> None:
        if self.wandb is None:
            return
        try:
            call(self.wandb)
        except Exception as error:
            self.wandb = None
            self.run.log(
                f"W&B {what} failed ({one_line(error)}); metrics.csv has everything, make sync uploads the rest"
            )


def answer(config: Config, run: Run) -> None:
    """If a W&B sweep asked for a run that has already ended, log it there as this trial, from its records."""
    if not trial():
        return
    tracker, status = Tracker(config, run), run.status()
    tracker.begin(status["environment"])
    for row in run.rows():
        tracker.log(row)
    tracker.finish(status["state"], status["reason"])


def keep_files(started, run: Run, what: str) -> None:
    """Upload the run's records, and with what="checkpoints" its latest checkpoint, as an artifact on W&B."""
    if what == "none":
        return
    artifact = wandb_module().Artifact(f"run-{run.id}", type="run")
    names = ["config.yaml", "metrics.csv", "status.json", "log.txt"]
    for name in [*names, "checkpoint.pt"] if what == "checkpoints" else names:
        if (run.folder / name).exists():
            artifact.add_file(str(run.folder / name))
    started.log_artifact(artifact)
