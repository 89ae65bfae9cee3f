"""The training loop: from a config and a run folder to finished records, resumable at every step."""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

from torch import Tensor

from runs.interrupt import StopRequest
from runs.run import Run
from runs.schema import Config

from . import checkpoint
from .build import build_splits, data_fingerprint
from .device import choose_device, configure, environment, memory
from .distributed import World
from .tracking import Tracker
from .trainer import Trainer

AGREE_STEPS = 50  # under torchrun, steps between two agreements on whether to stop or save


def train(
    config: Config,
    run: Run,
    observers: tuple[Callable[[dict], None], ...] = (),
    tracker: Tracker | None = None,
    say: Callable[[str], None] = lambda line: None,
    on_step: tuple[Callable[[Trainer], None], ...] = (),
) -> str:
    """Train from the latest checkpoint; the caller holds the lock. Returns "finished" or "diverged".

    observers are called with every row of metrics, including those from before an interruption; on_step after every
    step. Once data and device have been checked, tracker begins, and say is called with a line about the run. Raises
    Interrupted after SIGINT or SIGTERM, with the state saved; RunError, DataError, ConfigError, OSError. Under torchrun
    all processes call it, and one writes.
    """
    world = World.from_environment()
    device = choose_device(config, world)
    configure(config, device)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        train_set, validation_set, test_set = build_splits(config, device, world)
    with world.connected(device), StopRequest() as stop, checkpoint.Writer(run) as writer:
        trainer = Trainer(config, device, len(train_set), world)
        record = Recorder(config, run, trainer, writer)
        data = data_fingerprint(config, train_set, test_set)
        where = environment(config, device, world)
        record.begin(where, data, [str(warning.message) for warning in warned])
        say(start_line(config, run, trainer, where, len(test_set)))
        if tracker:
            tracker.begin(where, partial(memory, device))
        for row in trainer.history:  # a killed process may not have passed on the last of them
            for observe in observers:
                observe(row)
        while not (outcome := ending(config, trainer.history)):
            sums = train_epoch(config, trainer, train_set, test_set, record, stop, on_step)
            test = trainer.evaluate(test_set)
            validation = trainer.evaluate(validation_set) if validation_set else None
            train = trainer.evaluate(train_set) if config.evaluate_train else None
            row = trainer.end_epoch(sums, test, train, validation)
            for observe in observers:
                observe(row)
            record.note_broken(train_set, validation_set, test_set)
            stopping = stop.requested = world.agree(stop.requested, device)
            over = ending(config, trainer.history)
            record.end_epoch(row, last=bool(over or stopping))
            if not over:
                stop.check()
        record.end(*outcome)
    return outcome[0]


def start_line(config: Config, run: Run, trainer: Trainer, where: dict, tested: int) -> str:
    resumed = f", resumed at epoch {trainer.epoch + 1}" if trainer.epoch or trainer.step else ""
    data = f"{config.dataset.name}, {trainer.images:,} images to train and {tested:,} to test"
    return f"{run.name}: {config.epochs} epochs{resumed}\n{where['device']}; {data}; {run.folder}"


def train_epoch(
    config: Config,
    trainer: Trainer,
    train_set,
    test_set,
    record: "Recorder",
    stop: StopRequest,
    on_step: tuple[Callable[[Trainer], None], ...],
) -> Tensor:
    """Train the rest of the current epoch, with the evaluations inside it that the config asks for.

    Returns the epoch's sums over all processes, on the CPU.
    """
    started = time.perf_counter() - trainer.seconds
    stop.slept()
    for inputs, labels in train_set.epoch(config.seed, trainer.epoch, config.batch_size, trainer.step):
        trainer.train_step(inputs, labels)
        for observe in on_step:
            observe(trainer)
        started += stop.slept()
        if trainer.step in trainer.stops:
            trainer.seconds = time.perf_counter() - started
            trainer.look(test_set)
            started = time.perf_counter() - trainer.seconds
        if record.due(stop):
            trainer.seconds = time.perf_counter() - started
            record.save(last=bool(stop.requested))
            stop.check()
            started = time.perf_counter() - trainer.seconds
    sums = trainer.world.sum(trainer.sums).cpu()  # waits for the device, so the clock stops after it
    trainer.seconds = time.perf_counter() - started
    return sums


def ending(config: Config, history: list[dict]) -> tuple[str, str] | None:
    """(state, reason) if the run has ended after these rows, else None."""
    if not history:
        return None
    last = history[-1]
    if not math.isfinite(last["train_loss"]):
        return "diverged", f"loss not finite in epoch {last['epoch']}"
    if config.stop.success is not None and last["train_acc"] >= config.stop.success:
        return "finished", f"success: train accuracy {last['train_acc']:.4f} in epoch {last['epoch']}"
    if config.stop.dead and last["grad_norm1"] == 0:
        return "finished", f"dead: first-layer gradient exactly 0 in epoch {last['epoch']}"
    if last["epoch"] >= config.epochs:
        return "finished", "all epochs"
    return None


class Recorder:
    """Writes the run's folder during training; under torchrun only the main process writes.

    Rows may be ahead of the latest checkpoint: a run that resumes from it trains those epochs again, to the same bits.
    """

    def __init__(self, config: Config, run: Run, trainer: Trainer, writer: checkpoint.Writer):
        self.config, self.run, self.trainer, self.world = config, run, trainer, trainer.world
        self.writer = writer
        self.broken: set[str] = set()

    def begin(self, environment: dict, data: str, warned: list[str]) -> None:
        """Restore the latest checkpoint, and make the rows on disk agree with it."""
        if self.world.main:
            self.run.begin(asdict(self.config), environment, data)
            for warning in dict.fromkeys(warned):
                self.run.log(f"warning: {warning}")
        self.world.barrier()
        checkpoint.load(self.run, self.trainer.restore)
        if self.world.main:
            self.run.write_rows(self.trainer.history)
            self._status("running")
        self.saved = time.monotonic()

    def due(self, stop: StopRequest) -> bool:
        """Whether to save in the middle of an epoch; the answer is the same in all processes."""
        wanted = stop.requested or self._time_is_up()
        if self.world.size == 1:
            return bool(wanted)
        if self.trainer.step % AGREE_STEPS:
            return False
        stop.requested = self.world.agree(stop.requested, self.trainer.device)
        return bool(self.world.agree(int(bool(wanted)), self.trainer.device))

    def save(self, last: bool = False) -> None:
        """Begin a checkpoint; last: wait until it is on disk before any process continues."""
        sums = self.world.sum(self.trainer.sums.clone())  # a collective, so in every process
        if self.world.main:
            self.writer.save(self.trainer.state_dict() | {"sums": sums})
            if last:
                self.writer.wait()
        self.world.barrier()
        self.saved = time.monotonic()

    def end_epoch(self, row: dict, last: bool) -> None:
        """Its row, and a checkpoint if it is time for one, the first or the last."""
        if self.world.main:
            self.run.append(row)
            self._status("running")
            if self.writer.idle:
                self.writer.wait()  # raises what went wrong
        due = last or self.trainer.epoch == 1 or self._time_is_up()
        if self.world.agree(int(due), self.trainer.device):
            self.save(last)

    def _time_is_up(self) -> bool:
        return self.writer.idle and time.monotonic() - self.saved > self.config.checkpoint_seconds

    def note_broken(self, *datasets) -> None:
        """Log the names of the images that were skipped, each once."""
        broken = {path: reason for data in datasets for path, reason in getattr(data, "broken", {}).items()}
        new = [f"{path} ({reason})" for path, reason in broken.items() if path not in self.broken]
        if new and self.world.main:
            self.run.log(f"skipped {len(broken)} broken images so far; new: {'; '.join(new)}")
        self.broken |= set(broken)

    def end(self, state: str, reason: str) -> None:
        if self.world.main:
            self._status(state, reason)

    def _status(self, state: str, reason: str | None = None) -> None:
        self.run.write_status(state, self.trainer.epoch, self.config.epochs, self.trainer.total_seconds(), reason)
