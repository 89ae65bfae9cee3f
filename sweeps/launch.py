"""Hand jobs to whichever Hydra launcher is configured; what became of them is read from the runs on disk."""

import logging
import signal
import sys
import threading

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig
from tqdm import tqdm

from training import cli
from training.interrupt import Interrupted
from training.run import ENDED, now

from .plan import Job

POLL_SECONDS = 1.0


def launch(jobs: list[Job]) -> list[str]:
    """Train the jobs, with one live progress bar; returns a line for each that did not end.

    Called under @hydra.main. A job's failure does not stop the others.
    """
    hydra = HydraConfig.instance().cfg
    context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks())
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=train_job, config=hydra)
    for name in ("hydra", "hydra_plugins"):
        logging.getLogger(name).setLevel(logging.WARNING)  # the progress bar says what they would
    with Progress(jobs):
        outcomes = launcher.launch([job.overrides for job in jobs], initial_job_idx=0)
    return [
        f"{job.run.name}: {outcome.return_value}"
        for job, outcome in zip(jobs, outcomes, strict=True)
        if outcome.return_value is not None
    ]


def train_job(config: DictConfig) -> str | None:
    """Train one run, possibly in a worker process; returns None, or why it did not end."""
    cli.register()
    from training.execute import execute

    try:
        execute(cli.typed(config))
    except Interrupted as stop:
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        return f"{type(error).__name__}: {cli.one_line(error)}"


class Progress:
    """A bar of epochs over all jobs, read from their folders, so that it does not matter who trains them."""

    def __init__(self, jobs: list[Job]):
        self.epochs = {job.run.folder: job.config["epochs"] for job in jobs}
        self.waiting = {job.run.folder: job.run for job in jobs}
        self.done = dict.fromkeys(self.waiting, 0)
        self.over = threading.Event()
        self.started = now()

    def __enter__(self) -> "Progress":
        self._look()
        self.bar = tqdm(total=sum(self.epochs.values()), initial=sum(self.done.values()), unit="epoch", disable=None)
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.over.set()
        self.thread.join()
        self._show()
        self.bar.close()

    def _watch(self) -> None:
        while not self.over.wait(POLL_SECONDS):
            self._show()

    def _show(self) -> None:
        self._look()
        self.bar.set_postfix_str(f"{len(self.epochs) - len(self.waiting)}/{len(self.epochs)} runs")
        self.bar.update(sum(self.done.values()) - self.bar.n)

    def _look(self) -> None:
        for folder, run in list(self.waiting.items()):
            status = run.status()
            self.done[folder] = status.get("epoch") or 0
            failed = status.get("state") == "failed" and status["updated"] >= self.started  # not in an earlier try
            if status.get("state") in ENDED or failed:
                # An early end does its remaining epochs at once, so that the estimate stays right.
                self.done[folder] = self.epochs[folder]
                del self.waiting[folder]
