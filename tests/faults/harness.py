"""Faults in forked children: a warm process has imported everything, so that a case costs a fraction of a second."""

import ctypes
import errno
import fcntl
import io
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
OFF, COUNT, KILL_BEFORE, KILL_AFTER, FAIL_ONCE, FAIL_FROM, SHORT, TRACE = range(8)
MODES = {
    "SIGKILL before the call": (KILL_BEFORE, 0),
    "SIGKILL after the call": (KILL_AFTER, 0),
    "ENOSPC once": (FAIL_ONCE, errno.ENOSPC),
    "ENOSPC from there on": (FAIL_FROM, errno.ENOSPC),
    "EIO once": (FAIL_ONCE, errno.EIO),
    "EDQUOT from there on": (FAIL_FROM, errno.EDQUOT),
    "short write": (SHORT, 0),
}
TIMEOUT = 120


def preload() -> None:
    """Start this program again with the shim, which is compiled first, if it runs without it."""
    if os.environ.get("LD_PRELOAD"):
        return
    library = Path(tempfile.mkdtemp(prefix="faults-")) / "shim.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, HERE / "shim.c", "-ldl"], check=True)
    os.environ |= {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
    os.execv(sys.executable, [sys.executable, "-m", "tests.faults", *sys.argv[1:]])


def arm(folder: Path, mode: int, at: int = 0, error: int = 0, log: str = "") -> None:
    ctypes.CDLL(None).fault_arm(str(folder).encode(), mode, at, error, log.encode())


@dataclass
class Ended:
    """How a child ended: exit status (negative: the signal), what it printed."""

    status: int
    output: str
    errors: str

    @property
    def traceback(self) -> bool:
        return "Traceback (most recent" in self.errors

    @property
    def one_line(self) -> bool:
        lines = [line for line in self.errors.splitlines() if line.strip()]
        return self.status > 0 and len(lines) == 1


def child(function: Callable[[], object], seconds: float = TIMEOUT, signals: Callable[[int], None] | None = None):
    """Run a function in a fork; returns its Ended. signals: is given the pid, to disturb it."""
    (output, to_output), (errors, to_errors) = os.pipe(), os.pipe()
    for pipe in (output, errors):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 20)  # more than a child prints
        os.set_blocking(pipe, False)
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            _as_child(function, to_output, to_errors)
        finally:
            os._exit(1)
    os.close(to_output)
    os.close(to_errors)
    with suppress(OSError):
        os.setpgid(pid, pid)
    if signals:
        signals(pid)
    until = time.monotonic() + seconds
    while (found := os.waitpid(pid, os.WNOHANG))[0] == 0 and time.monotonic() < until:
        time.sleep(0.002)
    if found[0] == 0:
        os.killpg(pid, signal.SIGKILL)
        found = os.waitpid(pid, 0)
    texts = []
    for pipe in (output, errors):
        with open(pipe, "rb", buffering=0) as file:
            texts.append((file.read(1 << 20) or b"").decode(errors="replace"))
    if time.monotonic() > until:
        return Ended(-99, texts[0], f"hung for {seconds} s; {texts[1]}")
    return Ended(os.waitstatus_to_exitcode(found[1]), *texts)


def _as_child(function: Callable[[], object], output: int, errors: int) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the suite runs under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(fd, "w", closefd=False), write_through=True) for fd in (1, 2))
    status = 0
    try:
        function()
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    arm(Path("/"), OFF)
    os._exit(status)


def program(name: str, *arguments: str) -> Callable[[], None]:
    """train.py or sweep.py with these arguments, as a function for `child`."""

    def run() -> None:
        sys.argv = [f"{name}.py", *{text.split("=")[0]: text for text in arguments}.values()]  # the last of each
        runpy.run_path(str(HERE.parents[1] / f"{name}.py"), run_name="__main__")

    return run


@dataclass
class Table:
    """The outcomes of all cases, by fault; a case that is none of same, refused or noticed is lost, silent or both."""

    counts: dict[str, Counter] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was not run, and why

    def add(self, fault: str, what: str, about: str = "") -> None:
        """what: same, refused, lost, silent or traceback."""
        self.counts.setdefault(fault, Counter())[what] += 1
        if what in ("lost", "silent", "traceback"):
            self.bad.append(f"{what}: {fault}: {about[:2000]}")
            print(self.bad[-1], flush=True)

    def lines(self) -> list[str]:
        columns = ("same", "refused", "lost", "silent", "traceback")
        lines = ["| fault | cases | same bits | refused in one line | lost | silent | tracebacks |",
                 "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
        every: Counter = Counter()
        for fault, found in self.counts.items():
            every += found
            lines.append(f"| {fault} | {found.total()} | " + " | ".join(str(found[name]) for name in columns) + " |")
        return [
            *lines,
            f"| **together** | {every.total()} | " + " | ".join(str(every[name]) for name in columns) + " |",
        ]
