"""Sweeps with workers: one of them killed, or the parent; signals; several sweeps at once; no memory, no /dev/shm."""

import ctypes
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

from runs.run import Run
from sweeps import engines, worker
from tests.helpers import TIMES, outcome

from .disk import again
from .harness import Ended, Table, child, program
from .scenarios import MLP, Scenario, bits

NEW_NAMESPACE = 0x00020000  # CLONE_NEWNS
GRID = ("+grid.paper={sgdm: {lr: [0.1, 0.01]}}", "seeds=[0,1]", "launcher=local", "launcher.workers=2")
# (signal, to whom, how often)
DISTURBED = {
    "a worker killed": (signal.SIGKILL, "worker", 1),
    "killed, its workers not": (signal.SIGKILL, "sweep", 1),
    "SIGTERM": (signal.SIGTERM, "sweep", 1),
    "a closed terminal": (signal.SIGHUP, "all", 1),
    "SIGQUIT": (signal.SIGQUIT, "sweep", 1),
    "Ctrl-C": (signal.SIGINT, "all", 1),
    "Ctrl-C twice": (signal.SIGINT, "all", 2),
}


def sweep_of(name: str, *more: str, warm: bool = True) -> Scenario:
    """Four runs. warm: its workers are forked from this process, which has imported everything, instead of started."""
    arguments = [*MLP, *GRID, *more]

    def act(folder: Path) -> None:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # until the program's own first line
        if warm:
            engines.Local._worker = _warm_worker
        program("sweep", *arguments, f"results={folder}")()

    def came_out(folder: Path) -> object:
        return {path.name: bits(outcome(Run(path))) for path in (folder / "runs").glob("*/")}

    return Scenario(name, lambda folder: None, act, came_out)


def _warm_worker(self, gpus: engines.Gpus) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"), initializer=_bind)


def _bind() -> None:
    worker.stop.__init__()  # as a worker that is started has it
    worker.bind(None)


def disturbed(scenario: Scenario, scratch: Path, table: Table, count: int, choose: random.Random) -> None:
    """Each of DISTURBED at any moment; then the same command again, now and then while workers still end."""
    expected, usual = _undisturbed(scenario, scratch)
    for case in range(count):
        what = list(DISTURBED)[case % len(DISTURBED)]
        number, whom, times = DISTURBED[what]
        folder, group = scratch / "case", []

        def disturb(pid: int, number=number, whom=whom, times=times, group=group) -> None:
            group.append(pid)
            time.sleep(choose.uniform(0.1, usual))
            for _ in range(times):
                with suppress(ProcessLookupError):
                    if whom == "worker":
                        os.kill(choose.choice(workers(pid, usual)), number)
                    else:
                        (os.killpg if whom == "all" else os.kill)(pid, number)
                time.sleep(choose.uniform(0, 0.3) * (times > 1))

        done = child(lambda folder=folder: scenario.act(folder), signals=disturb)
        about = f"{scenario.name}, {what}: {done}"
        ended_by = {0, 128 + number, *((-number,) if number != signal.SIGINT else ())} if whom != "worker" else {0}
        if case % 2:
            wait_for_end(group[0])
        result = _judged(done, ended_by, about) or again(scenario, folder, expected, about)
        if left := wait_for_end(group[0]):
            result = "lost", f"{about}; processes that did not end: {left}"
        table.add(f"a sweep with workers: {what}", *result)
        shutil.rmtree(folder, ignore_errors=True)


def _undisturbed(scenario: Scenario, scratch: Path) -> tuple[object, float]:
    """What comes out, and the seconds that it takes."""
    started = time.monotonic()
    done = child(lambda: scenario.act(scratch / "undisturbed"))
    assert done.status == 0, done
    return scenario.came_out(scratch / "undisturbed"), time.monotonic() - started


def _judged(done: Ended, statuses: set[int], about: str) -> tuple[str, str] | None:
    if done.traceback:
        return "traceback", about
    return None if done.status in statuses else ("lost", about)


def family(group: int) -> dict[int, int]:
    """The parents of a process group's living processes."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found[int(stat.parent.name)] = int(parent)
    return found


def workers(sweep: int, seconds: float) -> list[int]:
    """Its children but multiprocessing's own, waited for. Raises ProcessLookupError if none come."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        children = [pid for pid, parent in family(sweep).items() if parent == sweep]
        with suppress(OSError):
            if found := [pid for pid in children
                         if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]:  # fmt: skip
                return found
        time.sleep(0.01)
    raise ProcessLookupError


def wait_for_end(group: int, seconds: float = 60) -> list[int]:
    """Who is still there after so long; they are killed."""
    until = time.monotonic() + seconds
    while (found := list(family(group))) and time.monotonic() < until:
        time.sleep(0.02)
    if found:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    return found


def at_once(scenario: Scenario, scratch: Path, table: Table, count: int, choose: random.Random) -> None:
    """Two and three sweeps share their runs; of every second group one is killed, and the others take its runs over."""
    expected, usual = _undisturbed(scenario, scratch)
    for case in range(count):
        folder, number, kill = scratch / "case", 2 + case % 3 // 2, case % 2

        def several(folder=folder, number=number, kill=kill) -> None:
            pids = []
            for _ in range(number):
                pid = os.fork()
                if pid == 0:
                    status = 0
                    try:
                        scenario.act(folder)
                    except SystemExit as leaving:
                        status = leaving.code if isinstance(leaving.code, int) else 1
                    os._exit(status)
                pids.append(pid)
            if kill:
                time.sleep(choose.uniform(0.1, usual))
                os.kill(pids[0], signal.SIGKILL)
            statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
            os._exit(int(any(statuses[kill:])))

        group = []
        done = child(several, signals=group.append)
        about = f"{number} {scenario.name}{', one killed' * kill}: {done}"
        result = _judged(done, {0}, about) or again(scenario, folder, expected, about)
        if left := wait_for_end(group[0]):
            result = "lost", f"{about}; processes that did not end: {left}"
        table.add("two and three sweeps at once", *result)
        shutil.rmtree(folder, ignore_errors=True)


def limits(scenario: Scenario, scratch: Path, table: Table, count: int, choose: random.Random) -> None:
    """A worker's address space ends at some moment near what it has; few open files for all of a sweep."""
    expected, usual = _undisturbed(scenario, scratch)

    def limit(pid: int) -> None:
        time.sleep(choose.uniform(0, usual))
        with suppress(ProcessLookupError, FileNotFoundError, IndexError):
            one = choose.choice(workers(pid, usual))
            now = int(Path(f"/proc/{one}/statm").read_text().split()[0]) * resource.getpagesize()
            more = now + int(10 ** choose.uniform(4, 8))
            resource.prlimit(one, resource.RLIMIT_AS, (more, more))

    for case in range(count):
        files = (4, 8, 12, 16, 20, 24, 32, 56)[case % 8]
        for what, before, signals in (
            ("a memory limit in a worker", lambda: None, limit),
            ("few open files", lambda files=files: _few_files(files), None),
        ):
            name = f"a sweep with workers: {what}"
            ended, about = _under(name, before, scenario, scratch / "case", expected, signals)
            if ended == "lost" and signals and _rounded(scratch / "case", scratch / "undisturbed"):
                ended = "silent"
            table.add(name, ended, about)
            shutil.rmtree(scratch / "case", ignore_errors=True)


def _rounded(folder: Path, other: Path) -> bool:
    """Whether all metrics are the same but for rounding."""
    for path in (other / "runs").glob("*/"):
        ours, theirs = (Run(at / "runs" / path.name).rows() for at in (folder, other))
        pairs = [(one[key], row[key]) for one, row in zip(ours, theirs, strict=False) for key in row.keys() - TIMES]
        if len(ours) != len(theirs) or not all(a == b or math.isclose(a, b, rel_tol=1e-5) for a, b in pairs):
            return False
    return True


def _few_files(more: int) -> None:
    limit = len(os.listdir("/proc/self/fd")) + more
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def _under(name: str, before: Callable[[], object], scenario: Scenario, folder: Path, expected: object,
           signals=None) -> tuple[str, str]:  # fmt: skip
    """A command under a condition, which it may refuse in lines, and then without."""

    def act() -> None:
        before()
        scenario.act(folder)

    done = child(act, signals=signals)
    about = f"{scenario.name}, {name}: {done}"
    return _judged(done, {0, 1, 2}, about) or again(scenario, folder, expected, about)


def without_shared_memory(scenarios: list[Scenario], table: Table) -> None:
    """In a name space of its own without /dev/shm, where this user may make one; the results are elsewhere."""
    scratch = Path(tempfile.mkdtemp(prefix="faults-", dir="/var/tmp"))
    try:
        for number, scenario in enumerate(scenarios):
            at = scratch / str(number)
            at.mkdir()
            if child(_no_shared_memory).status:
                table.notes.append("no /dev/shm: not run here, where no name space can be made")
                return
            expected, _ = _undisturbed(scenario, at)
            table.add("no /dev/shm", *_under("no /dev/shm", _no_shared_memory, scenario, at / "case", expected))
    finally:
        shutil.rmtree(scratch)


def _no_shared_memory() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_NAMESPACE):
        raise OSError(ctypes.get_errno(), "unshare")
    for command in (["mount", "--make-rprivate", "/"], ["umount", "-l", "/dev/shm"]):
        subprocess.run(command, check=True, capture_output=True)
    assert not os.access("/dev/shm/x", os.W_OK)
