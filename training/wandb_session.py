"""A run on W&B as this project starts it: which mode, nothing asked, little waiting; and what a trial of a sweep is."""

import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from runs.schema import Wandb

from . import view

# A dead or slow server costs a run at most 20 seconds in all.
PROBE_SECONDS = 3
INIT_SECONDS = 7
SECOND_INIT_SECONDS = 3  # for another id, if the first was deleted
FINISH_SECONDS = 7
SILENCE_SECONDS = 600  # for which a server that did not answer is not asked again
FLUSH_SECONDS = 1  # how old what `make watch` shows may be, and what a kill may cost


class Mode(NamedTuple):
    """online, offline or disabled; and why, if it is not what was asked for."""

    name: str
    why: str = ""


def start(
    about: view.About, id: str, mode: str, folder: Path, asked: Wandb, system: bool = False,
    init_seconds: float | None = None, finish_seconds: float | None = None,
) -> Any:  # fmt: skip
    """The run `id` on W&B, resumed if it is there; system: with statistics of the machine. Raises what W&B raises."""
    wandb = wandb_module()
    extra = asked.tags or [tag for tag in os.environ.get("WANDB_TAGS", "").split(",") if tag]
    started = wandb.init(
        mode=mode,  # pyright: ignore[reportArgumentType]
        project=None if trial() else project(asked),
        entity=None if trial() else asked.entity,
        id=id,
        name=about.name,
        group=asked.group or os.environ.get("WANDB_RUN_GROUP") or about.group,
        job_type=about.job_type,
        tags=list(dict.fromkeys([*about.tags, *extra])),
        notes=asked.notes,
        config=about.config,
        dir=folder,
        resume="allow",
        reinit="create_new",
        settings=wandb.Settings(
            init_timeout=init_seconds or INIT_SECONDS,
            finish_timeout=finish_seconds or FINISH_SECONDS,
            finish_timeout_raises=True,
            x_transaction_log_flush_interval=FLUSH_SECONDS,
            x_disable_stats=not system,
            console="off",
            silent=True,
        ),
    )
    for axis in view.AXES:
        started.define_metric(axis, hidden=True)
    for batch in view.BATCH:
        started.define_metric(batch, step_metric="step")
    # Of two patterns that fit a metric W&B takes any. Layers stay out of the page that W&B makes of itself: it sorts
    # sections by name, and would open with a panel for every layer's dead units.
    for section in view.ORDER:
        started.define_metric(f"{section}/*", step_metric="epoch", hidden=section == "layers")
    return started


def project(asked: Wandb) -> str:
    return asked.project or wandb_module().setup().settings.project or "powersgd"


def trial() -> str | None:
    """The id that a sweep's agent has given this process' run, which is then not ours to choose."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


def wandb_module():
    """wandb, imported where it is first needed, with its own words and telemetry off."""
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # for a dead server this holds a process up by 20 s
    import wandb

    return wandb


def chosen_mode(mode: str) -> Mode:
    """The mode for wandb.mode; WANDB_MODE, or else `wandb offline`, decides for auto.

    Without credentials online becomes offline, since W&B would ask for them and wait.
    """
    if mode in ("offline", "disabled"):
        return Mode(mode)
    try:
        settings = wandb_module().setup().settings
        if mode == "auto" and settings.mode in ("offline", "disabled"):
            return Mode(settings.mode)
        if not has_credentials(settings.base_url):
            return Mode("offline", f"no credentials for {settings.base_url}: wandb login")
        why = silent(settings.base_url)
    except Exception as error:
        return Mode("offline", f"W&B failed: {one_line(error)}")
    return Mode("offline", f"{settings.base_url} does not answer: {why}") if why else Mode("online")


def has_credentials(server: str) -> bool:
    from wandb.sdk.lib import wbauth

    try:
        return wbauth.authenticate_session(host=server, source="", prompt=False, update_session=False) is not None
    except Exception:  # a key that is none
        return False


_silences: dict[str, tuple[float, str]] = {}


def silent(server: str, seconds: float | None = None) -> str:
    """Why a server does not answer, "" if it does; one that did not is not asked again for a while."""
    since, why = _silences.get(server, (-SILENCE_SECONDS, ""))
    if time.monotonic() - since < SILENCE_SECONDS:
        return why
    query = b'{"query": "query ServerInfo { serverInfo { cliVersionInfo } }"}'
    request = urllib.request.Request(f"{server}/graphql", query, {"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=seconds or PROBE_SECONDS).close()
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            _silences[server] = time.monotonic(), one_line(error)
            return one_line(error)
    except OSError as error:
        _silences[server] = time.monotonic(), one_line(error)
        return one_line(error)
    return ""


def forecast(asked: Wandb) -> str:
    """Where the runs of a sweep that is about to start are to be seen."""
    mode, why = chosen_mode(asked.mode)
    if mode == "offline":
        return offline(why)
    return f"online, project {project(asked)}" if mode == "online" else mode


def offline(why: str) -> str:
    """What is said of a run or sweep that is logged offline."""
    return f"offline{f' ({why})' if why else ''}; make watch shows its curves, make sync uploads them"


def deleted_there(error: Exception) -> bool:
    """Whether a run could not be started because W&B never gives an id back that was deleted there."""
    return "HTTP 409" in str(error)


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
