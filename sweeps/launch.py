"""One queue for the runs of all experiments of a command, longest first; their outcomes are read from disk."""

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

from tqdm import tqdm

from runs.run import ENDED, Run, now

from .engines import Engine, Task
from .plan import Job
from .worker import Failure, Outcome, stop

POLL_SECONDS = 1.0
LOG_SECONDS = 60.0
DEATHS = 2  # a run whose process died more often, without a new epoch in between, is given up


class Queue:
    """Trains jobs with an engine; more may be added while others are trained.

    A job's failure does not stop the others. A run whose process died is retried; one that did not fit into its share
    of a GPU is retried alone on one; with `retry`, one that crashed is retried once. A run that another process is
    training is waited for. failed: by name, a line for each run that did not end. history: who ran where and when.
    """

    def __init__(self, engine: Engine, retry: bool, estimate: Callable[[Job], tuple[float, Fraction]]):
        self.engine, self.retry, self.estimate = engine, retry, estimate
        self.known: set[str] = set()
        self.waiting: list[Task] = []
        self.running: set[Task] = set()
        self.busy: list[Task] = []
        self.failed: dict[str, str] = {}
        self.history: list[tuple[str, Outcome]] = []

    def __enter__(self) -> "Queue":
        stop.__enter__()
        self.progress = Progress()
        return self

    def __exit__(self, *_) -> None:
        self.progress.close()
        self.engine.close()
        stop.__exit__(*_)

    def add(self, jobs: Iterable[Job]) -> None:
        """Add the jobs that are new; a run that several experiments ask for is trained once."""
        new = [job for job in {job.run.name: job for job in jobs}.values() if job.run.name not in self.known]
        self.known |= {job.run.name for job in new}
        self.waiting += [Task(job, *self.estimate(job)) for job in new]
        self.progress.add(new)

    def say(self, text: str) -> None:
        self.progress.bar.write(text)

    def wait(self) -> set[str]:
        """Wait until some runs have ended or finally failed, and return their names; an empty set once all have.

        Raises Interrupted.
        """
        over: set[str] = set()
        while not over and (self.waiting or self.running or self.busy):
            over |= self._start()
            for task, outcome in self.engine.ended(POLL_SECONDS):
                self.running.remove(task)
                over |= self._judged(task, outcome)
            over |= self._look_at_busy()
            if stop.requested:
                self._leave()
        return over

    def _start(self) -> set[str]:
        """Start what the engine has room for, the longest first and retries last; returns names of ended runs.

        Runs that differ in length by less than a factor of two keep the order in which they were added.
        """
        over = set()
        longest = max((task.seconds for task in self.waiting), default=0.0)
        self.waiting.sort(
            key=lambda task: (task.tries, int(math.log2(longest / task.seconds)) if task.seconds else math.inf)
        )
        while self.waiting and not stop.requested and self.engine.room(self.waiting[0]):
            task = self.waiting.pop(0)
            if task.job.run.ended():  # another sweep has trained it
                over.add(task.job.run.name)
            elif task.job.run.folder.exists() and task.job.run.busy():
                self.busy.append(task)
            else:
                task.tries, task.started = task.tries + 1, now()
                task.epoch = max(task.epoch, task.job.run.status().get("epoch") or 0)
                self.running.add(task)
                self.engine.start(task)
        return over

    def _judged(self, task: Task, outcome: Outcome | None) -> set[str]:
        """Decide what follows a task that is over: {its name} if nothing does, else an empty set."""
        name = task.job.run.name
        if outcome:
            self.history.append((name, outcome))
        if task.job.run.ended():
            return {name}
        failure = (outcome and outcome.failure) or recorded(task.job.run, task.started)
        if failure.kind == "busy":
            self.busy.append(task)
            return set()
        if failure.kind == "died":
            task.deaths = 1 if (task.job.run.status().get("epoch") or 0) > task.epoch else task.deaths + 1
        task.crashes += failure.kind == "crashed"
        alone = failure.kind == "memory" and task.share < 1
        if alone:
            task.share, task.whole = Fraction(1), True
        if (
            alone
            or (failure.kind == "died" and task.deaths <= DEATHS)
            or (failure.kind == "crashed" and self.retry and task.crashes == 1)
        ):
            self.waiting.append(task)
            return set()
        hint = "; accumulate=2 halves the images in memory at a time" if failure.kind == "memory" else ""
        self.failed[name] = f"{name}: {failure.reason}{hint}"
        return {name}

    def _look_at_busy(self) -> set[str]:
        freed = [task for task in self.busy if not task.job.run.busy()]
        self.busy = [task for task in self.busy if task not in freed]
        over = {task.job.run.name for task in freed if task.job.run.ended()}
        self.waiting += [task for task in freed if task.job.run.name not in over]  # its owner died
        return over

    def _leave(self) -> None:
        while self.running:
            self.engine.leave()
            self.running -= {task for task, _ in self.engine.ended(POLL_SECONDS)}
        stop.check()

    def use(self, slots: int) -> float | None:
        """The fraction of `slots` GPUs' time that runs took, from the first run's start to the last one's end."""
        spans = [(outcome.began, outcome.ended) for _, outcome in self.history]
        length = max((end for _, end in spans), default=0) - min((begin for begin, _ in spans), default=0)
        return sum(end - begin for begin, end in spans) / length / slots if length and slots else None


def recorded(run: Run, started: str) -> Failure:
    """Why a run has not ended, if its engine does not know."""
    status = run.status()
    if status.get("state") == "failed" and status.get("updated", "") >= started:
        return Failure("crashed", status["reason"])
    return Failure("busy" if run.folder.exists() and run.busy() else "died", "its process died")


class Progress:
    """Epochs done over all jobs, read from their folders, so it does not matter which process trains them.

    Shown as a bar at a terminal, as a line a minute in a log file.
    """

    def __init__(self):
        self.epochs: dict[Path, int] = {}
        self.done: dict[Path, int] = {}
        self.waiting: dict[Path, Run] = {}
        self.changed: dict[Path, int] = {}  # each folder's mtime in nanoseconds when it was last read
        self.started = now()
        self.begun, self.before = time.monotonic(), 0  # epochs
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.bar = tqdm(total=0, unit="epoch", disable=None)
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def add(self, jobs: Iterable[Job]) -> None:
        with self.lock:
            for job in jobs:
                self.epochs[job.run.folder], self.done[job.run.folder] = job.config["epochs"], 0
                self.waiting[job.run.folder] = job.run
            self._look()
            if not self.bar.total:  # epochs done before do not count in the estimate of the time left
                self.bar.initial = self.bar.n = self.before = sum(self.done.values())
            self.bar.total = sum(self.epochs.values())

    def close(self) -> None:
        self.over.set()
        self.thread.join()
        self._show()
        self.bar.close()

    def _watch(self) -> None:
        said = time.monotonic()
        while not self.over.wait(POLL_SECONDS):
            self._show()
            if self.bar.disable and time.monotonic() - said >= LOG_SECONDS:
                said = time.monotonic()
                print(self.line(), file=sys.stderr, flush=True)

    def line(self) -> str:
        """The sweep's progress, and the time left at the speed so far."""
        done, total = sum(self.done.values()), sum(self.epochs.values())
        line = f"{len(self.epochs) - len(self.waiting)} of {len(self.epochs)} runs, {done} of {total} epochs"
        if done == self.before:
            return line
        left = (total - done) * (time.monotonic() - self.begun) / (done - self.before)
        return f"{line}, {tqdm.format_interval(left)} left"

    def _show(self) -> None:
        with self.lock:
            self._look()
            self.bar.set_postfix_str(f"{len(self.epochs) - len(self.waiting)}/{len(self.epochs)} runs")
            self.bar.update(sum(self.done.values()) - self.bar.n)

    def _look(self) -> None:
        """Reads a run's status only if its folder has changed, which one scan of the parent folder shows."""
        for parent in {folder.parent for folder in self.waiting}:
            for entry in os.scandir(parent) if parent.exists() else ():
                folder = Path(entry.path)
                run = self.waiting.get(folder)
                changed = entry.stat().st_mtime_ns if run else 0
                if not run or self.changed.get(folder) == changed:
                    continue
                self.changed[folder] = changed
                status = run.status()
                self.done[folder] = status.get("epoch") or 0
                if status.get("state") in ENDED:
                    del self.waiting[folder]
                if status.get("state") in ENDED or self._failed(status):
                    # A run that ends early counts all its epochs as done, so that the estimate stays right.
                    self.done[folder] = self.epochs[folder]

    def _failed(self, status: dict) -> bool:
        """Whether the run failed in this sweep, not only in an earlier one."""
        return status.get("state") == "failed" and status.get("updated", "") >= self.started
