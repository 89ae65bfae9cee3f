"""Carry out one run, whatever becomes of it: skip what has ended, record divergence, interruption and crash."""

import traceback
from collections.abc import Callable
from dataclasses import asdict

from data.errors import DataError
from runs.interrupt import Interrupted
from runs.run import Run, RunError
from runs.schema import Config, ConfigError

from . import checkpoint, tracking
from .distributed import World
from .loop import train


def execute(
    config: Config, on_epoch: Callable[[dict], None] | None = None, say: Callable[[str], None] | None = None
) -> Run:
    """Train the run of this config, or take it up again, unless it has ended; returns it.

    say is told where W&B shows it. Under torchrun every process calls it. Raises RunBusy if another process trains
    it. A crash leaves its traceback in the run's log.
    """
    run = Run.of(asdict(config))
    main = World.from_environment().main  # the main process of torchrun keeps the records for all
    if run.ended():
        if main:
            tracking.answer(config, run)
        return run
    if not main:
        train(config, run)
        return run
    with run.locked():
        if run.ended():
            return run
        tracker = tracking.Tracker(config, run, say)
        observers = (tracker.log, on_epoch) if on_epoch else (tracker.log,)
        try:
            state = train(config, run, observers, tracker)
        except (Interrupted, KeyboardInterrupt):
            tracker.finish("interrupted")
            raise
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            tracker.finish("failed", reason)
            if isinstance(error, (ConfigError, DataError, RunError)):
                run.leave_nothing()
                raise
            run.log("crashed:\n" + traceback.format_exc())
            run.fail(reason)
            if isinstance(error, OSError) and error.strerror:
                message = f"{error.strerror}, in the run {run.folder}; mend that and the same command goes on"
                raise OSError(error.errno, message) from None
            raise
        tracker.finish(state, run.status()["reason"])
        checkpoint.prune(run, config.keep)
    return run
