"""The id of a run: a hash of everything that its numbers depend on, and of nothing else."""

import hashlib
import json
import math
from dataclasses import MISSING
from typing import Any

from .code import CONTROLS, code_of
from .schema import ConfigError, batch_statistics, check, walk


def settled(config: dict, processes: int = 1, checked: dict | None = None) -> dict:
    """The config, checked, with the settings that follow from others: users' code, and the images per BatchNorm.

    processes: how many train the run together, if launcher.gpus_per_run does not say so. checked: as in `check`.
    Raises ConfigError.
    """
    config = dict(config)
    for section, key in (("dataset", "load"), ("model", "class_path"), ("optimizer", "class_path")):
        if isinstance(config[section], dict) and config[section].get(key):
            config[section] = config[section] | {"code": code_of(str(config[section][key]))}
    if isinstance(optimizer := config["optimizer"], dict) and optimizer.get("class_path"):
        control = str(optimizer["class_path"]).startswith(CONTROLS)
        config["optimizer"] = optimizer | {"decay_after_scaling": bool(control and optimizer["weight_decay"]) or None}
    check(config, checked)
    config["batch_statistics"] = batch_statistics(config, max(processes, config["launcher"].get("gpus_per_run", 1)))
    if config["planned"] is not None and config["planned"] != identity(config):
        raise ConfigError(f"the plan asks for run {config['planned']}, but these settings are run {identity(config)}")
    return config


def science(config: dict) -> dict[str, Any]:
    """The part of a plain config that makes up the run's identity, by dotted path; `before` values are left out."""
    found = {}
    for path, part, value, counts in walk(config):
        if counts:
            before = part.metadata["before"]
            found |= {key: number for key, number in _flat(value, path) if before is MISSING or number != before}
    return found


def identity(config: dict) -> str:
    """The run's id: 12 hex digits that stand for what the resolved config (plain dict) computes.

    Does not depend on the order of keys, the spelling of numbers, or where and how the run is trained.
    """
    return digest(canonical(science(config)))


def setting_id(found: dict[str, Any]) -> str:
    """12 hex digits for everything but the seed: runs that share them are repetitions of one setting.

    found: what `science` returns for a config.
    """
    return digest(canonical({path: value for path, value in found.items() if path != "seed"}))


def canonical(found: dict[str, Any]) -> str:
    """Settings by dotted path as canonical JSON, which is what is hashed."""
    return json.dumps(found, sort_keys=True, separators=(",", ":"))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def nested(found: dict[str, Any]) -> dict:
    """Values by dotted path as nested sections."""
    config: dict = {}
    for path, value in found.items():
        *sections, key = path.split(".")
        part = config
        for section in sections:
            part = part.setdefault(section, {})
        part[key] = value
    return config


def run_name(config: dict) -> str:
    """The name of a run's folder: a readable part, then its id."""
    model, optimizer = config["model"], config["optimizer"]
    parts = [config["dataset"]["name"], model["name"] + (str(model["depth"]) if model["name"] == "mlp" else "")]
    parts += [optimizer["name"], f"lr{_number(optimizer['lr']):g}"]
    parts += [f"gamma{_number(optimizer['gamma']):g}"] if "gamma" in optimizer else []
    return "-".join([*parts, f"seed{config['seed']}", identity(config)])


def _flat(value: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or "." in key:
                raise ConfigError(f"{path}: {key!r} cannot be a name there; give a string without dots")
        return [pair for key, part in value.items() for pair in _flat(part, f"{path}.{key}") or [(f"{path}.{key}", {})]]
    if isinstance(value, (list, tuple)):
        return [(path, [_number(part) for part in value])]
    return [(path, _number(value))]


def _number(value: Any) -> Any:
    """1, 1.0 and 1e0 are the same number, and so are 0.0 and -0.0."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ConfigError(f"a setting is {value}; only finite numbers can name a run")
        return int(value) if value == int(value) else value
    return value
