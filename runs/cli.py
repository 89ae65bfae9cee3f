"""Shared by train.py and sweep.py: schemas, checks before anything starts, one-line errors, exit status.

Exit status: 0 done (a diverged run is a result); 1 a run crashed or the machine prevented it (a full disk, a damaged
file, a run that another process is training); 2 bad input; 128 + n stopped by signal n.
POWERSGD_TRACEBACK=1 shows an error's traceback instead of one line.
"""

import contextlib
import difflib
import functools
import importlib.util
import itertools
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from runs import hydra_private, schema, usage
from runs.files import DamagedFile
from runs.gpus import visible
from runs.identity import settled
from runs.interrupt import MESSAGE, Interrupted, at_start, during_imports
from runs.run import RunError
from runs.schema import Config, ConfigError

ERRORS = (ConfigError, RunError, HydraException, OmegaConfBaseException, OSError)
RUN_ID = re.compile(r"^(rerun|planned)=([0-9a-f]{12})$")  # Hydra would read an id such as 572e17779630 as a number
NOISE = ("full_key:", "object_type=", "reference_type=", "To append to your config")
ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = {
    "schema": {"config": schema.Config, "dataset": schema.Dataset, "source": schema.Source},
    "schema/model": {kind.__name__.lower(): kind for kind in schema.MODELS.values()} | {"other": schema.OtherModel},
    "schema/optimizer": {kind.__name__.lower(): kind for kind in schema.OPTIMIZERS.values()}
    | {"other": schema.OtherOptimizer},
    "schema/schedule": schema.SCHEDULES,
}


def register() -> None:
    """Register the schemas and the resolver ${root:} with Hydra; call it before @hydra.main runs."""
    OmegaConf.register_new_resolver("root", lambda: str(ROOT), replace=True)
    for group, nodes in SCHEMAS.items():
        for name, node in nodes.items():
            ConfigStore.instance().store(group=group, name=name, node=node)


def recomposed(overrides: Iterable[str], master: DictConfig | None = None) -> DictConfig:
    """The config of another command line, from the same files; under @hydra.main, or given the config that it made."""
    master = master or cast(DictConfig, HydraConfig.instance().cfg)
    return GlobalHydra.instance().config_loader().load_sweep_config(master, list(overrides))


def hydra_overrides() -> list[str]:
    """This command's overrides of Hydra's own settings, which `recomposed` adds."""
    return list(cast(DictConfig, HydraConfig.instance().cfg).hydra.overrides.hydra)


def own_files() -> bool:
    """Whether all configs come from the project's folder, without --config-dir and the like."""
    sources = cast(DictConfig, HydraConfig.instance().cfg).hydra.runtime.config_sources
    return all(source.path in ("", str(ROOT / "configs")) or source.schema == "pkg" for source in sources)


def without_hydra(config: DictConfig) -> DictConfig:
    """The config without Hydra's own part; the same object if it has none, as copying takes a while."""
    if "hydra" not in config:
        return config
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def resolved(config: DictConfig) -> dict:
    """The config without Hydra's own part, as plain dicts and lists."""
    return cast(dict, OmegaConf.to_container(without_hydra(config), resolve=True, throw_on_missing=True))


def plain(config: DictConfig) -> dict:
    """As `resolved`, then settled and checked."""
    return settled_here(resolved(config))


def settled_here(config: dict) -> dict:
    return settled(config, processes())


def processes() -> int:
    """How many processes train together, from torchrun's variables. Raises ConfigError if some are missing."""
    size = os.environ.get("WORLD_SIZE", "1")
    numbers = {name: os.environ.get(name, "") for name in ("RANK", "LOCAL_RANK", "MASTER_PORT")} if size != "1" else {}
    wrong = [name for name, value in (numbers | {"WORLD_SIZE": size}).items() if not value.isdecimal()]
    if wrong or (numbers and not os.environ.get("MASTER_ADDR")):
        name = wrong[0] if wrong else "MASTER_ADDR"
        raise ConfigError(
            f"WORLD_SIZE={size}, but {name}={os.environ.get(name, '')}: start it with torchrun, or unset both"
        )
    return int(size)


def typed(config: DictConfig) -> Config:
    """As `plain`, as dataclasses."""
    return schema.build(plain(config))


class Check(Callback):
    """Checks every config of a command before the first one is trained."""

    def on_run_start(self, config: DictConfig, **_) -> None:
        self._check([config])

    def on_multirun_start(self, config: DictConfig, **_) -> None:
        given = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader()).parse_overrides(
            list(config.hydra.overrides.task)
        )
        axes = [
            [f"{one.get_key_element()}={value}" for value in one.sweep_string_iterator()]
            if one.is_discrete_sweep()
            else [str(one.input_line)]
            for one in given
        ]
        self._check((recomposed(job, config) for job in itertools.product(*axes)), many=True)

    def _check(self, configs, many: bool = False) -> None:
        # Hydra turns an exception in a callback into a warning, but lets SystemExit through.
        try:
            for config in configs:
                checked = plain(config)
                check_folders(checked, writes=not any(config.get(name) for name in ("plan", "status", "verify")))
                if many:
                    check_gpus(checked)
        except Exception as error:
            leave(error)


def check_gpus(config: dict) -> None:
    """Refuse runs of -m side by side where there is a GPU: Hydra's workers would all take the first one."""
    if config["launcher"]["name"] == "local" and config["device"] not in ("cpu", "mps") and visible():
        raise ConfigError(
            "launcher=local: with -m all runs would train on one GPU at once; python sweep.py places them, "
            "'+grid.paper.sgd.lr=[0.1,0.01]', launcher=here trains one after the other, device=cpu without it"
        )


def check_folders(config: dict, writes: bool = True) -> None:
    """Refuse folders that cannot be written and a data folder that does not exist, before anything is trained."""
    data_dir, dataset = Path(config["data_dir"]), config["dataset"]
    reads = writes and dataset["name"] != "synthetic" and not dataset["load"]
    if reads and not data_dir.is_dir() and data_dir != ROOT / "downloads":
        raise ConfigError(f"data_dir={data_dir}: there is no such folder; to download data into it, create it first")
    for key in ("results", "runs") if writes else ():
        folder = Path(config[key])
        try:
            there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
            tempfile.TemporaryFile(dir=there).close()
        except OSError as error:
            raise ConfigError(f"{key}={folder} cannot be written ({error.strerror}); choose another folder") from None


def task(function):
    """Decorates the function under @hydra.main: an error ends the program with one line, unless other jobs wait."""

    @functools.wraps(function)
    def reporting(config: DictConfig):
        try:
            if signal.getsignal(signal.SIGINT) is at_start:  # while Hydra composes nothing is lost by an exit
                signal.signal(signal.SIGINT, during_imports)
            return function(config)
        except (Interrupted, KeyboardInterrupt) as stop:
            # Unlike an Exception, SystemExit also ends the other jobs of -m.
            print(f"\n{str(stop) or MESSAGE}", file=sys.stderr)
            sys.exit(128 + getattr(stop, "signal", signal.SIGINT))
        except ERRORS as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN or os.environ.get("POWERSGD_TRACEBACK"):
                raise
            leave(error)

    return reporting


def run(main) -> None:
    """Run a @hydra.main function as a program: bad input ends with one line on stderr and exit status 2."""
    try:
        _run(main)
    except KeyboardInterrupt:
        print(f"\n{MESSAGE}", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except ERRORS as error:
        if os.environ.get("POWERSGD_TRACEBACK"):
            raise
        leave(error)


def _run(main) -> None:
    program = Path(sys.argv[0]).name
    if program in usage.PAGES and {"--help", "-h"} & set(sys.argv[1:]):
        print(usage.page(program))
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise instead of printing and exiting with 1
    hydra_private.on_usage_error(lambda message: leave(ValueError(f"{message}; see --help")))
    sys.argv[1:] = [RUN_ID.sub(r"\1='\2'", argument) for argument in sys.argv[1:]]
    for argument in sys.argv[1:]:
        group, _, option = argument.partition("=")
        if _no_word(option) and group and (ROOT / "configs" / group).is_dir():
            raise ConfigError(f"{argument}: choose one of the options in configs/{group}/")
    for launcher, package in (("slurm", "submitit"), ("ray", "ray")):
        if f"launcher={launcher}" in sys.argv and not importlib.util.find_spec(package):
            raise ConfigError(f"launcher={launcher} needs {package}: pip install -r requirements-{launcher}.txt")
    main()


def _no_word(text: str) -> bool:
    """Whether a value on the command line is a number, a constant or a list."""
    with contextlib.suppress(ValueError):
        float(text)
        return True
    return text in ("null", "true", "false") or text.startswith("[")


def leave(error: BaseException) -> None:
    print(f"error: {one_line(error)}", file=sys.stderr)
    machine = isinstance(error, (RunError, DamagedFile)) or getattr(error, "errno", None) is not None
    sys.exit(1 if machine else 2)


def one_line(error: BaseException) -> str:
    """The error in one line, without Hydra's and OmegaConf's extra lines, and with the nearest existing key."""
    text, nearest, cause = [], "", error
    while cause is not None:
        lines = [line.strip() for line in str(cause).split("Config search path:")[0].splitlines()]
        text += [line for line in lines if line and line not in text and not line.startswith(NOISE)]
        parent = getattr(cause, "parent_node", None)
        if isinstance(cause, (ConfigKeyError, ConfigAttributeError)) and isinstance(parent, DictConfig):
            close = difflib.get_close_matches(str(cause.key), [str(key) for key in parent], n=1)
            nearest = f" (did you mean {close[0]}?)" if close else ""
        cause = cause.__cause__
    line = "; ".join(text) or "unknown error"
    return line.replace("':; ", "': ") + nearest
