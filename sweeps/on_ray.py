"""Runs as Ray tasks. Ray places them on the GPUs of a machine or a cluster, whose nodes may come and go."""

import logging
import os
import time
from typing import Any

from runs.cli import ROOT
from runs.schema import ConfigError

from . import worker
from .engines import Ended, Task
from .place import Place, run_cores


class OnRay:
    """All tasks are submitted at once, the longest first. One whose process or node dies returns to our queue."""

    def __init__(self, place: Place, launcher: dict):
        import ray  # pyright: ignore[reportMissingImports]

        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's future default
        self.ray, self.place = ray, place
        mine = launcher["address"] is None
        asked: dict[str, Any] = {"num_gpus": launcher["gpus"], "num_cpus": launcher["cpus"], "include_dashboard": False}
        try:
            ray.init(
                address="local" if mine else launcher["address"], log_to_driver=False, logging_level=logging.ERROR,
                runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}}, **(asked if mine else {}),
            )  # fmt: skip
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise ConfigError(f"launcher=ray cannot start: {worker.one_line(error)}") from None
        self.on_gpu = place.on_gpu or bool(launcher["gpus"])
        # A process that used a GPU stays on it, whichever Ray gives its next task, so it gets none (0: any number).
        self.train = ray.remote(max_retries=0, max_calls=int(place.on_gpu))(worker.train_job)
        self.cores = cores_of_a_gpu(ray.nodes()) if place.on_gpu else None
        self.running: dict[Any, Task] = {}

    def room(self, task: Task) -> bool:
        return True

    def start(self, task: Task) -> None:
        config = task.config(self.place, self.cores)
        gpus = float(task.share) * config["launcher"]["gpus_per_run"] if self.on_gpu else 0
        options = {"num_cpus": run_cores(config), "num_gpus": gpus, "name": task.job.run.name}
        self.running[self.train.options(**options).remote(config)] = task

    def ended(self, seconds: float) -> list[Ended]:
        if not self.running:
            time.sleep(seconds)
            return []
        done, _ = self.ray.wait(list(self.running), num_returns=1, timeout=seconds)
        over = []
        for reference in done:
            try:
                outcome = self.ray.get(reference)
            except self.ray.exceptions.RayError:
                outcome = None
            over.append((self.running.pop(reference), outcome))
        return over

    def leave(self) -> None:
        for reference in self.running:
            self.ray.cancel(reference, force=False)  # raises KeyboardInterrupt in the task; its run saves its state

    def close(self) -> None:
        self.ray.shutdown()


def cores_of_a_gpu(nodes: list[dict]) -> float | None:
    """The cores for each GPU on the living node that has fewest, so that a task fits on any; None without GPUs."""
    found = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("GPU")]
    return min((one.get("CPU", 0) / one["GPU"] for one in found), default=None)
