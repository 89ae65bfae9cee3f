"""Trains one run of a sweep, in the sweep's process, a worker process, a SLURM job or a Ray task.

Imports neither Hydra nor torch before a run begins.
"""

import _thread
import gc
import multiprocessing
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import wait

from data.errors import DataError
from runs.identity import settled
from runs.interrupt import Interrupted, StopRequest
from runs.run import RunBusy
from runs.schema import ConfigError, build

from .ranks import RankDied, others


@dataclass
class Failure:
    """Why a run has not ended.

    kind: busy (another process is training it), died, memory (it does not fit), refused (not retryable), crashed.
    """

    kind: str
    reason: str


@dataclass
class Outcome:
    """What a worker reports about a run: the failure, if any, where it ran, and when (seconds since 1970)."""

    failure: Failure | None
    place: str
    began: float
    ended: float


def train_job(config: dict) -> Outcome:
    """Train the run of a settled config (plain dict)."""
    from . import slurm

    began = time.time()
    stop.begin_job()
    limit = slurm.TimeLimit() if slurm.inside() else None
    failure = _trained(config)
    if failure and failure.kind == "died" and limit and limit.announced:
        limit.requeue()
    return Outcome(failure, where(), began, time.time())


def _trained(config: dict) -> Failure | None:
    stop.in_job = True
    try:
        stop.check()
        settings = build(settled(config))
        from training.execute import execute

        with others(config):
            execute(settings)
    except (ConfigError, DataError) as error:
        return Failure("refused", f"{type(error).__name__}: {one_line(error)}")
    except (Interrupted, KeyboardInterrupt) as error:
        stop.requested = getattr(error, "signal", signal.SIGINT)
        return Failure("died", f"its process got {signal.Signals(stop.requested).name}")
    except RunBusy as error:
        return Failure("busy", one_line(error))
    except RankDied as error:
        return Failure("died", one_line(error))
    except Exception as error:
        memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
        kind = "memory" if memory else "crashed"
        return Failure(kind, f"{type(error).__name__}: {one_line(error)}")
    finally:
        stop.in_job = False
        _give_back_memory()
    return None


def _give_back_memory() -> None:
    """Free the GPU memory that torch caches, for other runs on the GPU, and the compiled graphs, whose number torch
    limits and which the next run cannot use."""
    torch = sys.modules.get("torch")
    if dynamo := sys.modules.get("torch._dynamo"):
        dynamo.reset()
    if torch and torch.cuda.is_available() and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def where() -> str:
    """The host, and the GPU if there is one."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    return socket.gethostname() + (f" GPU {gpus}" if gpus else "")


def one_line(error: BaseException) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip()) or "no message"


def bind(gpu: str | None) -> None:
    """Set up a new worker: it sees only this GPU, handles the sweep's signals, and ends when the sweep does.

    gpu: an id as CUDA_VISIBLE_DEVICES takes it, or several with commas, of one run; "": none, so that device=auto takes
    none; None: as the sweep itself.
    """
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    stop.begin_job()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        _thread.start_new_thread(_follow_parent, ())  # threading's would wait for ever for one that finds no memory
    except RuntimeError:
        os._exit(1)


def _follow_parent() -> None:
    """If the sweep is killed, the worker's run saves its state, and the worker ends."""
    parent = multiprocessing.parent_process()
    assert parent
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(0.1)
    while stop.in_job:
        time.sleep(0.1)
    os._exit(1)


class Stop(StopRequest):
    """StopRequest for a sweep and its workers; a run that is not in its training loop is interrupted at once.

    The sweep's process passes the signal on to its workers as SIGUSR1, after which they train nothing more, and ends
    when they have saved. A worker that gets any other signal interrupts only its current run, if it has one.
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
        if self.worker and not self.in_job:  # it waits for a run: there is nothing that a second Ctrl-C could stop
            self.requested = number
            return
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


SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}
stop = Stop()
