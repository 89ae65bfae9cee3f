"""Hand jobs to whichever Hydra launcher is configured; what became of them is read from the runs on disk."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import zip_longest
from typing import cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from omegaconf import DictConfig
from tqdm import tqdm

from data.errors import DataError
from runs import cli, hydra_private
from runs.interrupt import Interrupted, StopRequest
from runs.run import ENDED, Run, RunBusy, now
from runs.schema import ConfigError

from . import slurm
from .plan import Job

POLL_SECONDS = 1.0
DEATHS = 2  # a broken pool takes innocent runs along, so a run that died so often has its last try alone


@dataclass
class Failure:
    """Why a run has not ended; kind: busy (another process trains it), died, refused (no use trying again), crashed."""

    kind: str
    reason: str


def launch(jobs: list[Job], retry: bool = False) -> list[str]:
    """Train the jobs, with one live progress bar; returns a line for each that did not end.

    Called under @hydra.main. A job's failure does not stop the others. Runs whose process died are launched again,
    with `retry` also those that crashed, once; runs that another process trains are waited for. Raises Interrupted.
    """
    waiting, busy, failed = list(jobs), [], []
    deaths, crashes = Counter(), Counter()
    with stop, Progress(jobs):
        while waiting or busy:
            alone = [job for job in waiting if deaths[job.run.name] >= DEATHS]
            batch = [job for job in waiting if deaths[job.run.name] < DEATHS]
            batch, waiting = (batch, alone) if batch else (alone[:1], alone[1:])
            for job, failure in train(batch, deaths) if batch else ():
                name = job.run.name
                crashes[name] += failure.kind == "crashed"
                if failure.kind == "busy":
                    busy.append(job)
                elif (failure.kind == "died" and deaths[name] <= DEATHS) or (
                    failure.kind == "crashed" and retry and crashes[name] == 1
                ):
                    waiting.append(job)
                else:
                    failed.append(f"{name}: {failure.reason}")
            if busy and not waiting:
                time.sleep(POLL_SECONDS)
            stop.check()
            freed = {job.run.name for job in busy if not job.run.busy()}
            waiting += [job for job in busy if job.run.name in freed and not job.run.ended()]  # its owner died
            busy = [job for job in busy if job.run.name not in freed]
    return failed


def train(jobs: list[Job], deaths: Counter) -> list[tuple[Job, Failure]]:
    """One round with the launcher; returns what did not end, and counts the deaths since a run's last new epoch."""
    started = now()
    epochs = [job.run.status().get("epoch") for job in jobs]
    unfinished, died = [], []
    for job, epoch, outcome in zip_longest(jobs, epochs, hand_over(jobs)):
        if job.run.ended():
            continue
        failure = outcome or recorded(job.run, started)
        unfinished.append((job, failure))
        if failure.kind == "died":
            died.append((job.run, epoch))
    begun = [(run, epoch) for run, epoch in died if run.status().get("updated", "") >= started]
    for run, epoch in begun or died:  # those that only waited in a broken pool are not to blame
        deaths[run.name] = 1 if run.status().get("epoch") != epoch else deaths[run.name] + 1
    return unfinished


def recorded(run: Run, started: str) -> Failure:
    """Why a run has not ended whose launcher says nothing of it."""
    status = run.status()
    if status.get("state") == "failed" and status.get("updated", "") >= started:
        return Failure("crashed", status["reason"])
    return Failure("busy" if run.busy() else "died", "its process died")


def hand_over(jobs: list[Job]) -> list[Failure | None]:
    """Let the launcher train the jobs; returns what it says of the first of them, or of none."""
    context, hydra = hydra_private.launcher_context(), cast(DictConfig, HydraConfig.instance().cfg)
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=train_job, config=hydra)
    for name in ("hydra", "hydra_plugins"):
        logging.getLogger(name).setLevel(logging.WARNING)  # the progress bar says what they would
    overrides = UntilStopped(job.overrides for job in jobs)
    if slurm.chosen():
        outcomes = slurm.launch(launcher, overrides, stop)
    else:
        try:
            outcomes = launcher.launch(overrides, initial_job_idx=0)
        except BrokenProcessPool:
            for worker in multiprocessing.active_children():
                worker.join(10)  # being killed, they may still hold locks
            outcomes = []
    stop.check()
    return [outcome.return_value for outcome in outcomes]


def train_job(config: DictConfig) -> Failure | None:
    """Train one run, possibly in a worker process; returns None, or why it did not end."""
    cli.register()
    stop.begin_job()
    limit = slurm.TimeLimit() if slurm.inside() else None
    from training.execute import execute

    stop.in_job = True
    try:
        stop.check()
        execute(cli.typed(config))
    except (Interrupted, KeyboardInterrupt) as error:
        stop.requested = getattr(error, "signal", signal.SIGINT)
        if limit and limit.announced:
            limit.requeue()
        return Failure("died", f"its process got {signal.Signals(stop.requested).name}")
    except RunBusy as error:
        return Failure("busy", cli.one_line(error))
    except Exception as error:
        kind = "refused" if isinstance(error, (ConfigError, DataError)) else "crashed"
        return Failure(kind, f"{type(error).__name__}: {cli.one_line(error)}")
    finally:
        stop.in_job = False


class Stop(StopRequest):
    """The same for a sweep and its workers, where a run outside of its loop has nothing to save and is left at once.

    The sweep's process hands the signal on as USR1, on which workers train nothing more, and ends when they have
    saved. A worker that gets another signal leaves its present run alone.
    """

    def __init__(self):
        super().__init__()
        self.before = {}
        self.worker = self.in_job = False
        self.leaving = 0

    def begin_job(self) -> None:
        if not self.before:  # in a worker, as long as it lives
            self.worker = True
            self.__enter__()
            signal.signal(signal.SIGUSR1, self._leave)
        if self.worker:
            self.requested = self.leaving

    def _note(self, number, frame) -> None:
        super()._note(number, frame)
        if not self.worker:
            for worker in multiprocessing.active_children():
                if worker.pid:
                    os.kill(worker.pid, signal.SIGUSR1)
        if self.in_job:
            raise Interrupted(number)

    def _leave(self, *_) -> None:
        self.requested = self.leaving = signal.SIGTERM
        if self.in_job:
            os.kill(os.getpid(), signal.SIGTERM)


stop = Stop()


class UntilStopped(list):
    """What a launcher takes jobs from, one at a time: a stopped sweep has no more."""

    def __iter__(self):
        for item in super().__iter__():
            if stop.requested:
                return
            yield item


class Progress:
    """A bar of epochs over all jobs, read from their folders, so that it does not matter who trains them."""

    def __init__(self, jobs: list[Job]):
        self.epochs = {job.run.folder: job.config["epochs"] for job in jobs}
        self.waiting = {job.run.folder: job.run for job in jobs}
        self.done = dict.fromkeys(self.waiting, 0)
        self.over = threading.Event()
        self.started = now()

    def __enter__(self) -> "Progress":
        self._look()
        self.bar = tqdm(total=sum(self.epochs.values()), initial=sum(self.done.values()), unit="epoch", disable=None)
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.over.set()
        self.thread.join()
        self._show()
        self.bar.close()

    def _watch(self) -> None:
        while not self.over.wait(POLL_SECONDS):
            self._show()

    def _show(self) -> None:
        self._look()
        self.bar.set_postfix_str(f"{len(self.epochs) - len(self.waiting)}/{len(self.epochs)} runs")
        self.bar.update(sum(self.done.values()) - self.bar.n)

    def _look(self) -> None:
        for folder, run in list(self.waiting.items()):
            status = run.status()
            self.done[folder] = status.get("epoch") or 0
            if status.get("state") in ENDED:
                del self.waiting[folder]
            if status.get("state") in ENDED or self._failed(status):
                # An early end does its remaining epochs at once, so that the estimate stays right.
                self.done[folder] = self.epochs[folder]

    def _failed(self, status: dict) -> bool:
        """Whether the run's newest try failed, and not one before this sweep."""
        return status.get("state") == "failed" and status.get("updated", "") >= self.started
