"""Engines train the runs that a queue gives them, one or many at a time: in this process, or in workers.

`room` says whether an engine takes one more task now, `start` starts it, and `ended` returns the tasks that have ended.
sweeps/slurm.py and sweeps/on_ray.py are engines, too.
"""

import multiprocessing
import os
import signal
import time
from collections import defaultdict
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

from . import worker
from .place import Place, placed_device
from .plan import Job
from .worker import Outcome

MOST_WORKERS = 16  # that decode images for a run: about 4,000 a second, as many as a fast GPU is assumed to train

Gpus = tuple[str | None, ...]  # by their ids; None is the CPU
Ended = tuple["Task", Outcome | None]  # None: the engine does not know; the run's folder tells


@dataclass(eq=False)
class Task:
    """A job in the queue, and what has happened to it so far."""

    job: Job
    seconds: float  # estimated duration
    share: Fraction = Fraction(1)  # of a GPU
    tries: int = 0
    deaths: int = 0  # of its process, since its last new epoch
    crashes: int = 0
    started: str = ""
    epoch: int = 0  # the last epoch after which a try began
    whole: bool = field(default=False)  # needs a whole GPU, as it did not fit into its share

    def config(self, place: Place, cores: float | None = None) -> dict:
        """The config for the worker, which refuses to train any other run than the planned one.

        cores: a GPU's share of a machine's, of which the run takes its own to decode images; None: this machine's.
        """
        config: dict = self.job.config | {"device": placed_device(self.job.config, place), "planned": self.job.run.id}
        if cores is None and place.gpus:
            cores = (os.cpu_count() or 1) / len(place.gpus)
        if cores and config["dataset"]["folder"]:
            decoding = min(MOST_WORKERS, int(cores * self.share) - config["threads"])
            config["dataset"] = config["dataset"] | {"workers": max(config["dataset"]["workers"], decoding)}
        return config


class Engine(Protocol):
    def room(self, task: Task) -> bool: ...

    def start(self, task: Task) -> None: ...

    def ended(self, seconds: float) -> list[Ended]:
        """The tasks that have ended; waits at most so many seconds for the first."""
        ...

    def leave(self) -> None:
        """Make running tasks save their state and end; called repeatedly while something runs."""
        ...

    def close(self) -> None: ...


class Here:
    """One run after the other, in this process."""

    def __init__(self, place: Place):
        self.place, self.over = place, []

    def room(self, task: Task) -> bool:
        return not self.over

    def start(self, task: Task) -> None:
        self.over.append((task, worker.train_job(task.config(self.place))))

    def ended(self, seconds: float) -> list[Ended]:
        over, self.over = self.over, []
        return over

    def leave(self) -> None:
        pass

    def close(self) -> None:
        pass


class Local:
    """Worker processes on this machine. Each trains a run at a time and is bound to its GPU before it imports torch.

    With launcher.gpus_per_run it is bound to several, or takes several slots of the CPU.
    """

    def __init__(self, place: Place):
        self.place = place
        self.free: dict[str | None, Fraction] = {gpu.id: Fraction(1) for gpu in place.gpus}
        self.free = self.free or {None: Fraction(place.slots)}
        self.idle: dict[Gpus, list[ProcessPoolExecutor]] = defaultdict(list)
        self.running: dict[Future, tuple[Task, Gpus, ProcessPoolExecutor]] = {}

    def room(self, task: Task) -> bool:
        return bool(self._freest(task))

    def start(self, task: Task) -> None:
        gpus = self._freest(task)
        for gpu in gpus:
            self.free[gpu] -= task.share
        pool = self.idle[gpus].pop() if self.idle[gpus] else self._worker(gpus)
        # A signal that arrives while the worker starts stays pending there until `bind` has set its handlers.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, worker.SIGNALS)
        try:
            future = pool.submit(worker.train_job, task.config(self.place))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.running[future] = task, gpus, pool

    def ended(self, seconds: float) -> list[Ended]:
        if not self.running:
            time.sleep(seconds)
        over = []
        for future in wait(self.running, seconds, FIRST_COMPLETED).done:
            task, gpus, pool = self.running.pop(future)
            for gpu in gpus:
                self.free[gpu] += task.share
            try:
                outcome = future.result()
                self.idle[gpus].append(pool)
            except BrokenProcessPool:
                outcome = None
                pool.shutdown()
            over.append((task, outcome))
        return over

    def leave(self) -> None:
        pass  # the signal handler has told the workers

    def close(self) -> None:
        for one in multiprocessing.active_children() if self.running else ():
            one.kill()
        for pool in [
            *(pool for _, _, pool in self.running.values()),
            *(p for some in self.idle.values() for p in some),
        ]:
            pool.shutdown(wait=not self.running)

    def _freest(self, task: Task) -> Gpus:
        """The GPUs with the most room for a run, as many as it takes; none if there are fewer."""
        number = task.job.config["launcher"]["gpus_per_run"]
        if None in self.free:
            return (None,) * number if self.free[None] >= number else ()
        fitting = sorted((gpu for gpu in self.free if self.free[gpu] >= task.share), key=lambda gpu: -self.free[gpu])
        return tuple(sorted(fitting[:number], key=str)) if len(fitting) >= number else ()

    def _worker(self, gpus: Gpus) -> ProcessPoolExecutor:
        shown = ("" if self.place.device == "cpu" else None) if None in gpus else ",".join(map(str, gpus))
        spawned = multiprocessing.get_context("spawn")
        # The first pool starts multiprocessing's resource tracker. It ignores SIGINT and SIGTERM; with this SIGHUP too.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            return ProcessPoolExecutor(1, mp_context=spawned, initializer=worker.bind, initargs=(shown,))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def engine(place: Place, launcher: dict) -> Engine:
    """The engine for a launcher. Raises ConfigError."""
    if launcher["name"] == "slurm":
        from .slurm import Slurm

        return Slurm(place, launcher)
    if launcher["name"] == "ray":
        from .on_ray import OnRay

        return OnRay(place, launcher)
    return (Here if launcher["name"] == "here" else Local)(place)
