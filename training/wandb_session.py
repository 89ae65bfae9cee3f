"""How this project starts a run on W&B: in which mode, without prompts, with short timeouts, or as a sweep's trial."""

import http.client
import logging
import os
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from runs.schema import Wandb

from . import view

# A dead or slow server costs a run at most 20 seconds in total.
PROBE_SECONDS = 3
INIT_SECONDS = 7
SECOND_INIT_SECONDS = 3  # for another id, if the first was deleted
FINISH_SECONDS = 7
SILENCE_SECONDS = 600  # a server that did not answer is not asked again for so long
FLUSH_SECONDS = 1  # how far `make watch` may lag behind, and how much a kill may lose


class Mode(NamedTuple):
    """online, offline or disabled; and why, if this is not what was asked for."""

    name: str
    why: str = ""


def start(
    about: view.About, id: str, mode: str, folder: Path, asked: Wandb, system: bool = False,
    init_seconds: float | None = None, finish_seconds: float | None = None,
) -> Any:  # fmt: skip
    """Start the run `id` on W&B, or resume it if it exists; system: log the machine's statistics, too.

    Raises what wandb raises.
    """
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
    # If two patterns match a metric, W&B uses either, so no two overlap. Layers are hidden from W&B's default page,
    # which sorts sections by name and would open with a panel for every layer's dead units.
    for section in view.ORDER:
        started.define_metric(f"{section}/*", step_metric="epoch", hidden=section == "layers")
    return started


def project(asked: Wandb) -> str:
    return asked.project or wandb_module().setup().settings.project or "powersgd"


def trial() -> str | None:
    """The run id that a W&B sweep's agent chose for this process, or None outside of a sweep."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


def wandb_module():
    """wandb, imported where it is first needed, with its messages and error reporting turned off."""
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # with a dead server it would delay a process by 20 s
    logging.raiseExceptions = False  # for every line of W&B's log that a full disk refuses there would be a traceback
    import wandb

    return wandb


def chosen_mode(mode: str) -> Mode:
    """The mode for wandb.mode; for auto, WANDB_MODE decides, or else `wandb offline`.

    Without credentials online becomes offline, since wandb would ask for them and wait.
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
    except Exception:  # a malformed key
        return False


_silences: dict[str, tuple[float, str]] = {}


def silent(server: str, seconds: float | None = None) -> str:
    """Why a server does not answer, or "" if it does. One that did not is not asked again for SILENCE_SECONDS."""
    since, why = _silences.get(server, (-SILENCE_SECONDS, ""))
    if time.monotonic() - since < SILENCE_SECONDS:
        return why
    seconds, answers = seconds or PROBE_SECONDS, []
    # In a thread, since urlopen's own time limit starts again with every byte.
    asking = threading.Thread(target=lambda: answers.append(_asked(server, seconds)), daemon=True)
    asking.start()
    asking.join(seconds)
    why = answers[0] if answers else f"TimeoutError: no answer within {seconds:g} s"
    if why:
        _silences[server] = time.monotonic(), why
    return why


def _asked(server: str, seconds: float) -> str:
    """What a server that does not answer does instead, "" if it does."""
    query = b'{"query": "query ServerInfo { serverInfo { cliVersionInfo } }"}'
    request = urllib.request.Request(f"{server}/graphql", query, {"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=seconds).close()
    except urllib.error.HTTPError as error:
        return one_line(error) if error.code >= 500 else ""
    except (OSError, http.client.HTTPException) as error:
        return one_line(error)
    return ""


def forecast(asked: Wandb) -> str:
    """Where to see the runs of a sweep that is about to start."""
    mode, why = chosen_mode(asked.mode)
    if mode == "offline":
        return offline(why)
    return f"online, project {project(asked)}" if mode == "online" else mode


def offline(why: str) -> str:
    """The message for a run or sweep that is logged offline."""
    return f"offline{f' ({why})' if why else ''}; make watch shows its curves, make sync uploads them"


def deleted_there(error: Exception) -> bool:
    """Whether a run could not be started because its id was deleted on W&B, which never allows one to be reused."""
    return "HTTP 409" in str(error)


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
