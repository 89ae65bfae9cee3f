"""Execute one run: skip it if it has ended; record completion, divergence, interruption or crash."""

import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from data.errors import DataError
from runs.interrupt import Interrupted
from runs.run import Run, RunError
from runs.schema import Config, ConfigError

from . import tracking
from .distributed import World

if TYPE_CHECKING:
    from .trainer import Trainer


def execute(
    config: Config,
    on_epoch: Callable[[dict], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
    on_step: Callable[["Trainer"], None] | None = None,
) -> Run:
    """Train or resume the run of this config, unless it has ended; returns the run.

    on_epoch is called with every row of metrics, on_step after every step; say is called with lines that tell what is
    trained, on which device, and where W&B shows it. Under torchrun every process calls this function. Raises RunBusy
    if another process is training the run. After a crash the traceback is in the run's log.
    """
    run = Run.of(asdict(config))
    main = World.from_environment().main  # torchrun's main process keeps the records
    if run.ended():
        if main:
            say("finished before, nothing trained")
            tracking.answer(config, run)
        return run
    from . import checkpoint  # torch takes seconds to import
    from .loop import train

    if not main:
        train(config, run)
        return run
    with run.locked():
        if run.ended():
            return run
        tracker = tracking.Tracker(config, run, say)
        observers = (tracker.log, on_epoch) if on_epoch else (tracker.log,)
        try:
            state = train(
                config, run, observers, tracker, say, (tracker.batch, on_step) if on_step else (tracker.batch,)
            )
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
                message = f"{error.strerror}, in the run {run.folder}; fix this and rerun the same command to resume"
                raise OSError(error.errno, message) from None
            raise
        tracker.finish(state, run.status()["reason"])
        checkpoint.prune(run, config.keep)
    return run
