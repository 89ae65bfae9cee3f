"""Runs as jobs of a SLURM cluster, one run a job, in arrays; squeue says when they are over.

submitit itself asks sacct; on a cluster without accounting it waits forever for a job that was killed.
"""

import logging
import math
import os
import pickle
import signal
import subprocess
import time
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from runs.cli import ROOT
from runs.schema import ConfigError

from . import worker
from .cost import memory_gb
from .engines import Ended, Task
from .place import Place, jobs_gpus, run_cores

POLL_SECONDS = 5.0  # all users of a cluster share its controller
OVER = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
        "TIMEOUT"}  # fmt: skip
REQUEUES = 20  # after so many time limits a job is not requeued
SPARE = 1.5  # the time asked for is this many times the estimate, plus ten minutes
ARRAY = 1000  # jobs in an array, if the cluster does not report its limit


class Slurm:
    def __init__(self, place: Place, launcher: dict):
        logging.getLogger("submitit").setLevel(logging.ERROR)
        self.place, self.launcher = place, launcher
        self.name = f"powersgd-{uuid.uuid4().hex[:8]}"
        self.waiting: list[Task] = []
        self.running: dict[str, tuple[Task, Any]] = {}  # by job number
        self.seen: set[str] = set()
        self.said = self.cancelled = False
        self.largest = max_array()

    def room(self, task: Task) -> bool:
        return True

    def start(self, task: Task) -> None:
        self.waiting.append(task)

    def ended(self, seconds: float) -> list[Ended]:
        waiting, self.waiting = self.waiting, []
        alike = defaultdict(list)
        for task in waiting:
            alike[self._needs(task)].append(task)
        for needs, tasks in alike.items():
            for first in range(0, len(tasks), self.largest):
                self._submit(tasks[first : first + self.largest], *needs)
        if waiting and not self.said:
            tqdm.write(f"submitted SLURM jobs; see them with: squeue --name={self.name}")
            self.said = True
        until = time.monotonic() + POLL_SECONDS
        while time.monotonic() < until and (self.cancelled or not worker.stop.requested):
            time.sleep(0.1)
        states = job_states(self.name)
        over = []
        if states is None:
            return over
        for number in list(self.running):
            self.seen |= {number} & set(states)
            if states.get(number) in OVER or (number in self.seen and number not in states):
                task, job = self.running.pop(number)
                over.append((task, _outcome(job)))
        return over

    def leave(self) -> None:
        if not self.cancelled:
            tqdm.write(f"cancelling the SLURM jobs {self.name}, which save their state first")
        self.cancelled = True
        subprocess.run(["scancel", f"--name={self.name}"], check=False)  # again for those submitted meanwhile

    def close(self) -> None:
        pass

    def _needs(self, task: Task) -> tuple[int, int, int]:
        """Minutes, cores and gigabytes that a job asks for."""
        config, most = task.job.config, self.launcher["minutes"]
        minutes = min(most, math.ceil(SPARE * task.seconds / 60) + 10) if math.isfinite(task.seconds) else most
        return minutes, run_cores(config) + 1, self.launcher["memory_gb"] or memory_gb(config, self.place)

    def _submit(self, tasks: list[Task], minutes: int, cores: int, gigabytes: int) -> None:
        """Raises ConfigError if the cluster refuses."""
        import submitit  # pyright: ignore[reportMissingImports]

        launcher, gpus = self.launcher, jobs_gpus(tasks[0].job.config)
        folder = Path(launcher["output"] or ROOT / "results" / ".slurm") / self.name
        executor = submitit.SlurmExecutor(folder, max_num_timeout=REQUEUES)
        executor.update_parameters(
            job_name=self.name, time=minutes, cpus_per_task=cores, mem=f"{gigabytes}GB",
            array_parallelism=launcher["array"], signal_delay_s=launcher["signal_seconds"],
            setup=[f'export PYTHONPATH="{ROOT}:$PYTHONPATH"'],
            **{key: launcher[key] for key in ("partition", "account") if launcher[key]},
            **({"gpus_per_node": gpus} if gpus else {}), additional_parameters=dict(launcher["options"]),
        )  # fmt: skip
        try:
            jobs = executor.map_array(worker.train_job, [task.config(self.place) for task in tasks])
        except Exception as error:  # submitit's own, or what sbatch says
            raise ConfigError(
                f"launcher=slurm cannot submit jobs: {worker.one_line(error)}; {advice(launcher)}"
            ) from None
        self.running |= {job.job_id: (task, job) for task, job in zip(tasks, jobs, strict=True)}


def _outcome(job) -> worker.Outcome | None:
    """What the job returned; None if it died first."""
    try:
        kind, value = pickle.loads(Path(job.paths.result_pickle).read_bytes())
    except (OSError, pickle.UnpicklingError, EOFError):
        return None
    return value if kind == "success" else None


def job_states(name: str) -> dict[str, str] | None:
    """The states of the jobs with this name that SLURM still remembers; None if it does not answer."""
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T", f"--name={name}"]
    lines = _said(*command)
    return None if lines is None else dict(line.split() for line in lines.splitlines())


def max_array() -> int:
    """How many jobs the cluster takes in one array."""
    lines = (_said("scontrol", "show", "config") or "").splitlines()
    found = [line.split("=")[1].strip() for line in lines if line.startswith("MaxArraySize")]
    return max(1, int(found[0]) - 1) if found else ARRAY


def advice(launcher: dict) -> str:
    """Which settings the cluster may need."""
    partitions = " ".join((_said("sinfo", "--noheader", "--format=%R") or "").split())
    text = f"choose launcher.partition={launcher['partition']}" + (f" of {partitions}" if partitions else "")
    return f"{text}, launcher.account={launcher['account']}; device=cpu asks for no GPU"


def _said(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def inside() -> bool:
    """Whether this process is a SLURM job."""
    return "SUBMITIT_EXECUTOR" in os.environ


class TimeLimit:
    """Handles the SIGUSR2 before a job's time limit: submitit would exit in mid-step, so end the run properly first."""

    def __init__(self):
        self.announced = False
        submitit = signal.signal(signal.SIGUSR2, self._note)
        assert callable(submitit)
        self.submitit = submitit

    def requeue(self) -> None:
        """Let submitit requeue the job, which ends this process."""
        self.submitit(signal.SIGUSR2, None)

    def _note(self, *_) -> None:
        self.announced = True
        os.kill(os.getpid(), signal.SIGTERM)
