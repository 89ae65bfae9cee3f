"""A round of jobs on a SLURM cluster: squeue, not the launcher, says when it is over.

Without accounting submitit waits for ever for a job that died hard. So it waits in a thread, which may be left behind.
"""

import logging
import os
import signal
import subprocess
import threading
import time
import uuid
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from tqdm import tqdm

from runs import cli
from runs.interrupt import StopRequest
from runs.schema import ConfigError

POLL_SECONDS = 5.0  # all users of a cluster share its controller
OVER = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}


def chosen() -> bool:
    return HydraConfig.get().runtime.choices.get("hydra/launcher") == "submitit_slurm"


def launch(launcher: Any, overrides: list[list[str]], stop: StopRequest) -> list[JobReturn]:
    """Returns what the jobs returned, or nothing if one of them died. A stop cancels them.

    Raises ConfigError if they cannot be submitted.
    """
    import submitit  # pyright: ignore[reportMissingImports]

    submitit.SlurmJob.watcher.update = lambda: None  # it asks sacct, which complains where there is no accounting
    logging.getLogger("submitit").setLevel(logging.ERROR)
    name = launcher.params["name"] = f"{launcher.params['name']}-{uuid.uuid4().hex[:8]}"
    outcomes, errors = [], []

    def submit_and_wait() -> None:
        try:
            outcomes.extend(launcher.launch(overrides, initial_job_idx=0))
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=submit_and_wait, daemon=True)
    thread.start()
    tqdm.write(f"{len(overrides)} SLURM jobs; to look at them: squeue --name={name}")
    seen = cancelled = False
    while True:
        refused = errors[:1]
        states = job_states(name)
        seen = seen or bool(states)
        if refused and not seen:
            raise ConfigError(f"launcher=slurm cannot submit jobs: {cli.one_line(refused[0])}")
        if seen and states is not None and states <= OVER:
            break
        if stop.requested:
            if not cancelled:
                tqdm.write(f"cancelling the SLURM jobs {name}, which save their state first")
                cancelled = True
            subprocess.run(["scancel", f"--name={name}"], check=False)  # again for those submitted meanwhile
        until = time.monotonic() + POLL_SECONDS
        while time.monotonic() < until and (cancelled or not stop.requested):
            time.sleep(0.1)
    thread.join(POLL_SECONDS)
    return outcomes


def job_states(name: str) -> set[str] | None:
    """The states of the jobs of this name, as long as SLURM remembers them; None if it does not answer."""
    command = ["squeue", "--noheader", "--states=all", "--format=%T", f"--name={name}"]
    try:
        return set(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split())
    except (OSError, subprocess.SubprocessError):
        return None


def inside() -> bool:
    """Whether this process is a job."""
    return "SUBMITIT_EXECUTOR" in os.environ


class TimeLimit:
    """The USR2 before a job's time limit, on which submitit would leave in mid-step: ends the run's step first."""

    def __init__(self):
        self.announced = False
        submitit = signal.signal(signal.SIGUSR2, self._note)
        assert callable(submitit)
        self.submitit = submitit

    def requeue(self) -> None:
        """Let submitit put the job back into the queue, with which this process ends."""
        self.submitit(signal.SIGUSR2, None)

    def _note(self, *_) -> None:
        self.announced = True
        os.kill(os.getpid(), signal.SIGTERM)
