"""Ctrl-C, SIGTERM and a closed terminal end a run between two steps, with its state saved. Standard library only."""

import _thread
import os
import signal
import sys
import threading
import time

MESSAGE = "stopped; rerun the same command to resume"


class Interrupted(Exception):
    """The run was asked to stop and has saved its state; `signal` is the number of the signal that asked."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}; rerun the same command to resume")
        self.signal = number


def at_start(number, _frame) -> None:
    """Handles Ctrl-C until the program's own function is called: exits."""
    os.write(2, f"\n{MESSAGE}\n".encode())
    os._exit(128 + number)


def during_imports(number, frame) -> None:
    """Handles Ctrl-C outside of training: KeyboardInterrupt; but during an import, which might swallow it, exits."""
    inner = frame
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            at_start(number, frame)
        frame = frame.f_back
    signal.default_int_handler(number, inner)


def send_again(ignored) -> None:
    """As sys.unraisablehook: sends a signal again whose exception Python ignores.

    That happens to what a handler raises while a destructor or a weak reference's callback runs.
    """
    error = ignored.exc_value
    number = error.signal if isinstance(error, Interrupted) else signal.SIGINT
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        _thread.start_new_thread(_send, (number,))
    else:
        sys.__unraisablehook__(ignored)


def _send(number: int) -> None:
    time.sleep(0.01)
    os.kill(os.getpid(), number)


class StopRequest:
    """While the block runs, SIGINT, SIGTERM and SIGHUP only set a flag that the loop checks.

    A second Ctrl-C stops at once (KeyboardInterrupt). Outside the main thread no handler is changed.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self):
        self.requested = 0  # the signal's number
        self.asleep, self.awake_at = 0.0, time.perf_counter()

    def __enter__(self) -> "StopRequest":
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            kept = [number for number in self.SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup
            self.before = {number: signal.signal(number, self._note) for number in kept}
            self.before[signal.SIGCONT] = signal.signal(signal.SIGCONT, self._continued)
            self.hook, sys.unraisablehook = sys.unraisablehook, send_again
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.before:
            sys.unraisablehook = self.hook

    def check(self) -> None:
        if self.requested:
            raise Interrupted(self.requested)

    def slept(self) -> float:
        """The seconds that the process was stopped (SIGSTOP, Ctrl-Z) since the last call; while the machine itself
        sleeps, perf_counter does not advance."""
        slept, self.asleep, self.awake_at = self.asleep, 0.0, time.perf_counter()
        return slept

    def _continued(self, *_) -> None:
        now = time.perf_counter()
        self.asleep, self.awake_at = self.asleep + now - self.awake_at, now

    def _note(self, number, _frame) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = number
