"""A run on several GPUs of a machine: the worker, a SLURM job's process too, is rank 0 and starts the other ranks."""

import multiprocessing
import os
import signal
import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from runs.identity import settled
from runs.interrupt import Interrupted
from runs.run import Run
from runs.schema import build

# Rank 0 hears them and tells the others when to stop (training/loop.py). SLURM sends them to all processes of a job.
SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2}
GRACE_SECONDS = 30.0  # for the other ranks to end after one has


class RankDied(Exception):
    """The process of another rank was killed, with which this one cannot go on."""


@contextmanager
def others(config: dict) -> Iterator[None]:
    """While the block trains the run of this settled config as rank 0, its other ranks train it, too.

    Raises RankDied in the place of what the block raises when one of them was killed.
    """
    size = config["launcher"]["gpus_per_run"]
    if size == 1:
        yield
        return
    world = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    places = [world | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    spawned = multiprocessing.get_context("spawn")
    ranks = [spawned.Process(target=_train, args=(config, place), daemon=True) for place in places[1:]]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        for rank in ranks:
            rank.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    over = threading.Event()
    threading.Thread(target=_watch, args=(ranks, over), daemon=True).start()
    os.environ |= places[0]
    try:
        yield
        for rank in ranks:
            rank.join(GRACE_SECONDS)
    except Exception:
        killed = [-rank.exitcode for rank in ranks if rank.exitcode is not None and rank.exitcode < 0]
        if killed:
            raise RankDied(f"another of its processes got {signal.Signals(killed[0]).name}") from None
        raise
    finally:
        over.set()
        for name in places[0]:
            del os.environ[name]
        for rank in ranks:
            rank.kill()
            rank.join()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _watch(ranks: list[BaseProcess], over: threading.Event) -> None:
    """NCCL waits for minutes for a rank that died; the worker dies after it, and the sweep tries the run again."""
    wait([rank.sentinel for rank in ranks])
    if not over.wait(GRACE_SECONDS):
        os._exit(1)


def _train(config: dict, place: dict[str, str]) -> None:
    """Another rank."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_follow_rank_0, daemon=True).start()
    os.environ |= place
    from training.execute import execute

    try:
        execute(build(settled(config)))
    except Interrupted:
        pass
    except Exception:
        Run.of(config).log(f"rank {place['RANK']} crashed:\n{traceback.format_exc()}")
        os._exit(1)


def _follow_rank_0() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    wait([parent.sentinel])
    os._exit(1)
