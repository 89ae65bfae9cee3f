"""Weights & Biases: every epoch is logged there, and nothing that happens there can hurt a run.

metrics.csv is the source of truth; W&B is a view of it. `wandb.mode=auto` logs online where there are
credentials and the server answers, offline otherwise (`make sync` uploads later), and never asks a question.
"""

import contextlib
import netrc
import os
import socket
from dataclasses import asdict
from typing import Literal
from urllib.parse import urlsplit

from runs.run import Run
from runs.schema import Config

Mode = Literal["online", "offline", "disabled"]
PROBE_SECONDS = 3
INIT_SECONDS = 15
FINISH_SECONDS = 15


class Tracker:
    """One W&B run with the id of our run; after any failure of W&B it goes quiet and says so in the run's log."""

    def __init__(self, config: Config, run: Run):
        self.run, self.wandb = run, None
        mode = chosen_mode(config.wandb.mode)
        if mode == "disabled":
            return
        try:
            self._start(config, mode)
        except Exception as error:
            if mode == "online":
                run.log(f"W&B online failed ({_line(error)}); offline instead")
                try:
                    _forget_runs()
                    self._start(config, "offline")
                    return
                except Exception as second:
                    error = second
            run.log(f"W&B failed ({_line(error)}); this run is logged on disk only")

    def _start(self, config: Config, mode: Mode) -> None:
        import wandb

        resolved = asdict(config)
        settings = wandb.Settings(
            init_timeout=INIT_SECONDS, finish_timeout=FINISH_SECONDS, console="off", silent=True, x_disable_stats=True
        )
        started = wandb.init(
            mode=mode,
            project=config.wandb.project,
            entity=config.wandb.entity,
            id=self.run.id,
            name=self.run.name,
            group=config.experiment or "single",
            job_type="train",
            tags=[config.tier, config.experiment or "single", config.dataset.name],
            config=resolved,
            dir=self.run.folder,
            resume="allow",
            reinit="create_new",
            settings=settings,
        )
        # Steps restart when a run is resumed, epochs do not.
        started.define_metric("epoch")
        started.define_metric("*", step_metric="epoch")
        started.define_metric("test_acc", step_metric="epoch", summary="max")
        self.wandb = started

    def log(self, row: dict) -> None:
        self._quietly("log", lambda run: run.log({k: v for k, v in row.items() if v is not None}))

    def finish(self, state: str) -> None:
        def end(run):
            run.summary["state"] = state
            run.finish(exit_code=int(state == "failed"))

        self._quietly("finish", end)
        self.wandb = None

    def _quietly(self, what: str, call) -> None:
        if self.wandb is None:
            return
        try:
            call(self.wandb)
        except Exception as error:
            self.wandb = None
            self.run.log(f"W&B {what} failed ({_line(error)}); the rest is logged on disk only")


def chosen_mode(mode: str) -> Mode:
    """online, offline or disabled for wandb.mode; WANDB_MODE in the environment decides for auto.

    Without credentials online becomes offline, since W&B would ask for them and wait.
    """
    asked = mode if mode != "auto" else os.environ.get("WANDB_MODE") or "auto"
    if asked in ("offline", "disabled"):
        return asked
    if not _has_credentials():
        return "offline"
    return "online" if asked == "online" or _answers(_server()) else "offline"


def _forget_runs() -> None:
    """Restart W&B's service: it keeps the id of a run that failed to start."""
    import wandb

    with contextlib.suppress(Exception):
        wandb.teardown()


def _server() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def _has_credentials() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators(urlsplit(_server()).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _answers(server: str) -> bool:
    url = urlsplit(server)
    port = url.port or (80 if url.scheme == "http" else 443)
    try:
        socket.create_connection((url.hostname, port), timeout=PROBE_SECONDS).close()
        return True
    except OSError:
        return False


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
