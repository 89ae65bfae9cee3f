"""W&B's server answers 500, hangs, closes or drips; its service is killed; its disk is full: the run ends in its bits.

And at most 20 seconds later than without W&B's server.
"""

import atexit
import os
import random
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tests.wandb_stub import KEY, Server

from .disk import again
from .harness import Ended, Table, child
from .machine import small_disks
from .scenarios import MLP, Scenario, run_of
from .sweeps import family, wait_for_end

LATE = 20.0  # seconds that W&B may cost
ANSWERS = (0, 1, 2, 3, 5, 8, 12)  # after how many the server fails; a whole run is given about a dozen


def tracked(scratch: Path, table: Table, count: int, choose: random.Random) -> None:
    """A server that fails in one of four ways after some answers, or whose client's service is killed at any moment."""
    alone = _apart(run_of((*MLP, "wandb.mode=offline", "epochs=4"), "a run offline"), "")
    started = time.monotonic()
    done = child(lambda: alone.act(scratch / "undisturbed"))
    assert done.status == 0, done
    usual, expected = time.monotonic() - started, alone.came_out(scratch / "undisturbed")
    online = run_of((*MLP, "wandb.mode=online", "epochs=4"), "a run online")
    for case in range(count):
        fault = ("500", "hang", "close", "drip", "service")[case % 5]
        with Server() as server:
            group, folder, scenario = [], scratch / "case", _apart(online, server.url)
            if fault != "service":
                server.instead, server.mute_after = fault, ANSWERS[case // 5 % len(ANSWERS)]

            def disturb(pid: int, group=group, service=fault == "service") -> None:
                group.append(pid)
                until = time.monotonic() + choose.uniform(0, 2 * usual)
                while service and time.monotonic() < until:
                    time.sleep(0.01)
                for one in family(pid) if service else ():
                    with suppress(OSError):
                        if "wandb-core" in Path(f"/proc/{one}/cmdline").read_text():
                            os.kill(one, signal.SIGKILL)

            began = time.monotonic()
            done = child(lambda scenario=scenario, folder=folder: scenario.act(folder), signals=disturb)
            seconds = time.monotonic() - began
            left = wait_for_end(group[0], LATE)
        name = "W&B's service killed" if fault == "service" else f"W&B's server: {fault}"
        about = f"{name} after {server.mute_after} answers, {seconds:.0f} s, usually {usual:.0f}, left {left}: {done}"
        table.add(name, *_became(scenario, done, seconds < usual + LATE and not left, folder, expected, about))
        shutil.rmtree(folder)


def _became(scenario: Scenario, done: Ended, in_time: bool, folder: Path, expected: object, about: str):
    if done.traceback:
        return "traceback", about
    if done.status or not in_time:
        return "lost", about
    return again(scenario, folder, expected, about)


def _apart(scenario: Scenario, url: str) -> Scenario:
    """The same with nothing of this machine's W&B account but, if there is a url, the one there."""

    def act(folder: Path) -> None:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            del os.environ[name]
        os.environ |= {"HOME": str(folder.parent)} | ({"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY} if url else {})
        scenario.act(folder)
        atexit._run_exitfuncs()  # as at the end of a program, where W&B waits for its service

    return replace(scenario, act=act)


def full_disks(scratch: Path, table: Table, sizes) -> None:
    offline = _apart(run_of((*MLP, "wandb.mode=offline"), "a run offline"), "")
    small_disks(offline, scratch, table, sizes, "W&B's disk full")
