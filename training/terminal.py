"""A run's progress: at a terminal a bar that moves with every step, in a log file a line an epoch."""

import sys
import time

from tqdm import tqdm

BAR = "{l_bar}{bar}| {n:.2f}/{total_fmt} epochs [{elapsed}<{remaining}{postfix}]"


class Terminal:
    """`with Terminal(20, done=7) as terminal:`; its epoch, step and say are what training.execute calls.

    epochs: None if they are not known. shown: False shows nothing at all.
    """

    def __init__(self, epochs: int | None, done: int = 0, shown: bool = True):
        self.epochs, self.done, self.shown = epochs, done, shown
        self.started: float | None = None  # the first step
        self.bar = tqdm(
            total=epochs, initial=done, bar_format=BAR, disable=None if shown else True
        )  # None: by terminal

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    def say(self, line: str) -> None:
        if self.shown:
            self.bar.write(line, file=sys.stderr)

    def step(self, trainer) -> None:
        self.started = self.started or time.monotonic()
        self._move(trainer.epoch + min(1.0, trainer.step * trainer.config.batch_size / trainer.images))

    def epoch(self, row: dict) -> None:
        """Show a row of metrics; rows from before an interruption are not printed again."""
        found = f"train {row['train_acc']:.4f} test {row['test_acc']:.4f}"
        self._move(row["epoch"])
        self.bar.set_postfix_str(found)
        if self.shown and self.bar.disable and row["epoch"] > self.done:
            self.say(f"epoch {row['epoch']}{self._left(row['epoch'])}: {found}")

    def _left(self, epoch: int) -> str:
        if self.epochs is None or self.started is None:
            return ""
        each = (time.monotonic() - self.started) / (epoch - self.done)
        return f" of {self.epochs}, {tqdm.format_interval(each * (self.epochs - epoch))} left"

    def _move(self, epoch: float) -> None:
        self.bar.update(max(0, epoch - self.bar.n))
