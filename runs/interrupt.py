"""Ctrl-C and SIGTERM end a run at a step boundary, with its state saved."""

import signal
import threading


class Interrupted(Exception):
    """The run was asked to stop and has saved its state; `signal` says by what."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}; the same command goes on where it stopped")
        self.signal = number


class StopRequest:
    """While the block runs, SIGINT and SIGTERM only set a flag that the loop looks at.

    A second Ctrl-C stops at once (KeyboardInterrupt). Outside the main thread signals are left alone.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.requested = 0  # the signal's number

    def __enter__(self) -> "StopRequest":
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        if self.requested:
            raise Interrupted(self.requested)

    def _note(self, number, _frame) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = number
