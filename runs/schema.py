"""What a run is: the typed config, its range checks and its identity. Imports nothing but the standard library.

The values stand in `configs/`; the classes here give names and types, and Hydra refuses what does not fit.
"""

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any

FORMAT = 1  # raised when the arithmetic of a run changes, so that old and new runs never mix

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
COMPILE = ("none", "default", "reduce-overhead")
AUGMENTATIONS = ("none", "crop_flip", "resized_crop_flip")
INITS = ("torch", "he", "he_fan_out", "xavier", "lecun", "orthogonal")
WANDB_MODES = ("auto", "online", "offline", "disabled")


class ConfigError(Exception):
    """A setting that cannot work; the message is one line that names it, its value and what is allowed."""


@dataclass
class Dataset:
    name: str
    num_classes: int
    image_shape: list[int]  # channels, height, width
    mean: list[float]  # per channel, of pixels scaled to [0, 1]
    std: list[float]
    augment: str  # none crop_flip resized_crop_flip
    subset: int | None = None  # this many training images, balanced over the classes; null = all
    test_subset: int | None = None  # this many test images, balanced over the classes; null = all
    validation: int = 0  # of the training images, so many are held out and evaluated; balanced over the classes
    verify: bool = True  # false: accept files whose checksums differ from the original archive's
    folder: str = ""  # of an image tree, below data_dir
    on_error: str = "fail"  # a broken JPEG: fail or skip
    workers: int = 2  # decoding processes, where images are decoded


@dataclass
class MLP:
    name: str
    depth: int
    width: int
    init: str
    summary: bool = False  # print its layers and train nothing


@dataclass
class ResNet:
    name: str
    blocks: list[int]
    width: int
    init: str
    summary: bool = False  # print its layers and train nothing


@dataclass
class DenseNet:
    name: str
    blocks: list[int]
    growth: int
    init: str
    summary: bool = False  # print its layers and train nothing


@dataclass
class ResNeXt:
    name: str
    depth: int
    cardinality: int
    width: int
    stem: int
    init: str
    summary: bool = False  # print its layers and train nothing


@dataclass
class WideResNet:
    name: str
    depth: int
    widen: int
    init: str
    summary: bool = False  # print its layers and train nothing


@dataclass
class SGD:
    name: str
    lr: float
    momentum: float
    weight_decay: float


@dataclass
class Adagrad:
    name: str
    lr: float
    initial_accumulator_value: float
    weight_decay: float


@dataclass
class RMSprop:
    name: str
    lr: float
    weight_decay: float


@dataclass
class Adam:
    name: str
    lr: float
    weight_decay: float


@dataclass
class PowerSGD:
    name: str
    lr: float
    gamma: float
    momentum: float
    weight_decay: float
    lr_in_velocity: bool
    decay_after_power: bool


@dataclass
class OtherOptimizer:
    """Anyone's optimizer, one YAML file; training/build.py says which classes may be named."""

    name: str
    class_path: str  # torch.optim.AdamW, optimizers.controls.RescaledSGD, or path/to/file.py:Class
    lr: float
    weight_decay: float | None = None  # null: not given to the class
    arguments: dict[str, Any] = field(default_factory=dict)  # its other keyword arguments
    grid: dict[str, Any] = field(default_factory=dict)  # what `also` tries: setting -> values


@dataclass
class Constant:
    name: str


@dataclass
class Step:
    name: str
    milestones: list[int]  # epochs after which lr is multiplied by factor
    factor: float


@dataclass
class WarmRestarts:
    name: str
    first: int  # epochs of the first cosine cycle, T_0
    longer: int  # each cycle is this many times the one before, T_mult


@dataclass
class Source:
    name: str
    lr_in_velocity: bool
    weight_decay: dict[str, float]  # per data set


@dataclass
class Stop:
    dead: bool = False  # end when the first layer's gradient was exactly 0 for a whole epoch
    success: float | None = None  # end when the epoch's running train accuracy reaches this


@dataclass
class Protocol:
    """Section 4.1: how sweep.py chooses a setting of each grid entry; sweeps/protocol.py."""

    tune: bool = False  # false: train the grid and choose nothing
    select_on: str = "test"  # the paper's way; or validation
    seeds: list[int] = field(default_factory=lambda: [100])  # train the grid, and select
    refine: list[str] = field(default_factory=list)  # grid entries whose lr is refined
    similar: float = 0.001  # accuracies this close are similar, and the faster setting wins
    reach: float = 0.95  # "faster" is fewer epochs to this share of the best accuracy
    validation: int = 5000  # images held out under select_on=validation, at most a tenth of the training set


@dataclass
class Wandb:
    mode: str = "auto"
    project: str = "powersgd"
    entity: str | None = None


@dataclass
class Config:
    # What is computed: these make the run's identity.
    dataset: Dataset
    model: Any
    optimizer: Any
    schedule: Any
    epochs: int
    batch_size: int
    seed: int
    precision: str = "fp32"
    batch_statistics: int | None = None  # images in one BatchNorm statistic; null = the batch. Set, not chosen
    stop: Stop = field(default_factory=Stop)
    evaluate_train: bool = False
    layer_norms: bool = False  # an MLP's amplification by the Powerball function, layer by layer
    format: int = FORMAT

    # What it is for, where and how it runs: these do not.
    experiment: str | None = None
    tier: str = "paper"
    source: Any = None
    refused: str | None = None  # why this experiment does not exist at this tier
    seeds: list[int] = field(default_factory=list)
    grid: dict[str, Any] = field(default_factory=dict)
    protocol: Protocol = field(default_factory=Protocol)
    also: list[str] = field(default_factory=list)
    only: list[str] = field(default_factory=list)
    plan: bool = False
    status: bool = False
    calibrate: bool = False
    merge: str | None = None
    archive: bool = False
    budget: float = 12.0
    retry: bool = False
    device: str = "auto"
    threads: int = 1
    accumulate: int = 1
    channels_last: bool = True
    compile: str = "none"
    deterministic: bool = True
    sync_batchnorm: bool = False
    results: str = "results"
    runs: str = "results/runs"
    data_dir: str = "downloads"
    checkpoint_seconds: float = 60.0
    wandb: Wandb = field(default_factory=Wandb)
    progress: bool = True


OPERATIONAL = {
    "experiment", "tier", "source", "refused", "seeds", "grid", "protocol", "also", "only", "plan", "status",
    "calibrate", "merge", "archive", "budget", "retry", "device", "threads", "accumulate", "channels_last", "compile",
    "deterministic", "sync_batchnorm", "results", "runs", "data_dir", "checkpoint_seconds", "wandb",
    "progress", "model.summary", "optimizer.grid", "dataset.verify", "dataset.workers",
}  # fmt: skip

PARTS = tuple(f"{key}." for key in OPERATIONAL if "." in key)

# A key added later -> what runs did before it existed. Left out of the identity while it has that value, so
# that the runs made before keep theirs. Lines are only ever added.
BEFORE: dict[str, Any] = {
    "dataset.folder": "", "dataset.validation": 0, "dataset.test_subset": None, "layer_norms": False,
}  # fmt: skip


def identity(config: dict) -> str:
    """12 hex digits that name what the resolved config (plain dict) computes.

    Not touched by the order of keys, the spelling of a number, nor by where and how the run takes place.
    """
    return digest(canonical(science(config)))


def science(config: dict) -> dict[str, Any]:
    """The settings that make a run's identity, by their dotted names. Raises ConfigError on nan and inf."""
    whole = {key: value for key, value in config.items() if key not in OPERATIONAL}
    flat = {key: value for key, value in _flat(whole).items() if not f"{key}.".startswith(PARTS)}
    return {key: value for key, value in flat.items() if key not in BEFORE or BEFORE[key] != value}


def canonical(settings: dict[str, Any]) -> str:
    """The one spelling of flat settings, which is what is hashed."""
    return json.dumps(settings, sort_keys=True, separators=(",", ":"))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_name(config: dict) -> str:
    """The folder of a run: readable first, its identity last."""
    model, optimizer = config["model"], config["optimizer"]
    parts = [config["dataset"]["name"], model["name"] + (str(model["depth"]) if model["name"] == "mlp" else "")]
    parts += [optimizer["name"], f"lr{_number(optimizer['lr']):g}"]
    parts += [f"gamma{_number(optimizer['gamma']):g}"] if "gamma" in optimizer else []
    return "-".join([*parts, f"seed{config['seed']}", identity(config)])


def _flat(value, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in _flat(part, f"{prefix}{key}.").items()}
    if isinstance(value, (list, tuple)):
        return {prefix[:-1]: [_number(part) for part in value]}
    return {prefix[:-1]: _number(value)}


def _number(value):
    """1, 1.0 and 1e0 are one number, and so are 0.0 and -0.0."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ConfigError(f"a setting is {value}; only finite numbers can name a run")
        return int(value) if value == int(value) else value
    return value


def validate(config: dict) -> None:
    """Range checks that the schema cannot make. Raises ConfigError on the first that fails."""
    for section in ("dataset", "model", "optimizer", "schedule", "source"):
        if not isinstance(config.get(section), dict):
            raise ConfigError(f"{section}={config.get(section)}: choose one of the options in configs/{section}/")
    unknown = [key for key in config if key not in Config.__dataclass_fields__]
    if unknown:
        raise ConfigError(f"unknown setting '{unknown[0]}'; 'python train.py --cfg job' lists them all")
    if config.get("refused"):
        raise ConfigError(config["refused"])
    _one_of(config, "dataset.augment", AUGMENTATIONS)
    _one_of(config, "dataset.on_error", ("fail", "skip"))
    _one_of(config, "precision", PRECISIONS)
    _one_of(config, "compile", COMPILE)
    _whole(config, "accumulate", 1)
    _one_of(config, "wandb.mode", WANDB_MODES)
    _whole(config, "epochs", 1)
    _whole(config, "batch_size", 1)
    _whole(config, "threads", 1)
    _whole(config, "seed", 0)
    for key in ("dataset.subset", "dataset.test_subset"):
        if _get(config, key) is not None and _get(config, key) < 1:
            raise ConfigError(f"{key}={_get(config, key)}: at least 1 image, or null for all")
    subset = _get(config, "dataset.subset")
    _whole(config, "dataset.validation", 0)
    validation = _get(config, "dataset.validation")
    if subset is not None and validation >= subset:
        raise ConfigError(f"dataset.validation={validation}: must be below dataset.subset={subset}")
    if config["layer_norms"] and config["model"]["name"] != "mlp":
        raise ConfigError(f"layer_norms=true: only model=mlp has them, not {config['model']['name']}")
    _one_of(config, "protocol.select_on", ("test", "validation"))
    _range(config, "protocol.similar", lambda similar: similar >= 0, "at least 0")
    _range(config, "protocol.reach", lambda reach: 0 < reach <= 1, "in (0, 1]")
    _whole(config, "protocol.validation", 1)
    _range(config, "budget", lambda hours: hours >= 0, "at least 0 hours")
    success = _get(config, "stop.success")
    if success is not None and not 0 < success <= 1:
        raise ConfigError(f"stop.success={success}: an accuracy in (0, 1], or null")
    if "depth" in config["model"]:
        _whole(config, "model.depth", 2)
    if "width" in config["model"]:
        _whole(config, "model.width", 1)
    if "init" in config["model"]:
        _one_of(config, "model.init", INITS)
    _range(config, "optimizer.lr", lambda lr: lr >= 0, "at least 0")
    _range(config, "optimizer.gamma", lambda gamma: 0 <= gamma <= 1, "in [0, 1]")
    _range(config, "optimizer.momentum", lambda momentum: 0 <= momentum < 1, "in [0, 1)")
    _range(config, "optimizer.weight_decay", lambda decay: decay >= 0, "at least 0")
    identity(config)  # refuses nan and inf anywhere


def batch_statistics(config: dict, processes: int) -> int | None:
    """How many images one BatchNorm statistic is taken over, if that is not the whole batch.

    Spreading a batch over processes or accumulating it in parts changes what BatchNorm computes, so it is part
    of a run's identity. The MLP has no BatchNorm.
    """
    parts = config["accumulate"] * (1 if config["sync_batchnorm"] else processes)
    return None if parts == 1 or config["model"]["name"] == "mlp" else config["batch_size"] // parts


def _get(config: dict, key: str):
    for part in key.split("."):
        config = (config or {}).get(part)
    return config


def _one_of(config: dict, key: str, choices) -> None:
    if _get(config, key) not in choices:
        raise ConfigError(f"{key}={_get(config, key)}: choose one of {', '.join(choices)}")


def _whole(config: dict, key: str, least: int) -> None:
    if _get(config, key) < least:
        raise ConfigError(f"{key}={_get(config, key)}: must be at least {least}")


def _range(config: dict, key: str, holds, allowed: str) -> None:
    value = _get(config, key)
    if value is not None and not holds(value):
        raise ConfigError(f"{key}={value}: must be {allowed}")
