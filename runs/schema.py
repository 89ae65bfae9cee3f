"""Every setting, once: its type, its allowed values, whether it is part of a run's identity, and what came before it.

The values are in `configs/`. Hydra checks names and types against these classes, `check` checks everything else; the
checks, the identity, W&B and the archive all go through a config with `walk`. Standard library only.
"""

import difflib
import functools
import math
import struct
import types
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any, NamedTuple, Union, get_args, get_origin

FORMAT = 1  # raised when the arithmetic of runs changes, so that old and new runs never mix

TIERS = ("paper", "laptop", "short", "smoke")  # files of configs/tier/
INITS = ("torch", "he", "he_fan_out", "xavier", "lecun", "orthogonal")


class ConfigError(Exception):
    """A setting that cannot work; the message is one line that names it, its value and what is allowed."""


class Setting(NamedTuple):
    """One setting of a config, as `walk` yields it."""

    path: str  # dotted
    field: Field
    value: Any
    science: bool  # part of the identity


class Rule(NamedTuple):
    """What a value must satisfy: a test, and the same in words."""

    holds: Callable[[Any], bool]
    words: str


def setting(
    rule: Rule | None = None, *, science: bool = True, before: Any = MISSING, default: Any = MISSING,
    default_factory: Any = MISSING,
) -> Any:  # fmt: skip
    """A field of a config.

    science: part of a run's identity. before: for a setting added later, the value that corresponds to what runs did
    until then; with it the setting stays out of the identity, so that those runs keep their names. Never edit one.
    """
    return field(
        default=default, default_factory=default_factory, metadata={"rule": rule, "science": science, "before": before}
    )


def at_least(least: float) -> Rule:
    return Rule(lambda value: value >= least, f"at least {least:g}")


def one_of(*choices: str) -> Rule:
    return Rule(lambda value: value in choices, f"one of {', '.join(choices)}")


def each(rule: Rule) -> Rule:
    return Rule(lambda values: all(map(rule.holds, values)), f"a list, each {rule.words}")


def _float32(value: float) -> bool:
    try:
        return value == 0 or abs(struct.unpack("<f", struct.pack("<f", value))[0]) > 0
    except OverflowError:
        return False


WORD = Rule(
    lambda text: bool(text) and text[0].isalnum() and all(c.isascii() and (c.isalnum() or c in "._+-") for c in text),
    "letters, digits and . _ + -, as it becomes part of a folder's name",
)
ABOVE_ZERO = Rule(lambda value: value > 0, "above 0")
SHARE = Rule(lambda value: 0 < value <= 1, "in (0, 1]")
MOMENTUM = Rule(lambda value: 0 <= value < 1, "in [0, 1)")
GAMMA = Rule(lambda value: 0 <= value <= 1, "in [0, 1]")
RATE = Rule(lambda value: value >= 0 and _float32(value), "at least 0, and a number that float32 can hold")
SHAPE = Rule(lambda shape: len(shape) == 3 and min(shape) >= 1, "channels, height and width, each at least 1")
RISING = Rule(
    lambda epochs: all(a < b for a, b in zip([0, *epochs], epochs, strict=False)),
    "rising epochs, the first at least 1",
)
PAIR = Rule(lambda sizes: not sizes or (len(sizes) == 2 and min(sizes) >= 1), "two numbers, each at least 1")
SEED = Rule(lambda seed: 0 <= seed < 2**63, "at least 0 and below 2^63")


@dataclass(kw_only=True)
class Dataset:
    name: str = setting(WORD)
    num_classes: int = setting(at_least(1))
    image_shape: list[int] = setting(SHAPE)  # channels, height, width
    mean: list[float] = setting()  # per channel, of pixels scaled to [0, 1]
    std: list[float] = setting(each(ABOVE_ZERO))
    augment: str = setting(one_of("none", "crop_flip", "resized_crop_flip"))
    subset: int | None = setting(at_least(1), default=None)  # this many training images, balanced; null = all
    test_subset: int | None = setting(at_least(1), default=None, before=None)  # the same for test images
    validation: int = setting(at_least(0), default=0, before=0)  # training images held out and evaluated, balanced
    folder: str = setting(default="", before="")  # of an image tree, below data_dir
    on_error: str = setting(one_of("fail", "skip"), default="fail")  # a broken JPEG
    load: str = setting(default="", before="")  # for your own data set: module.function or file.py:function
    code: str | None = setting(default=None, before=None)  # set by the program: what `load` contains
    sizes: list[int] = setting(PAIR, science=False, default_factory=list)  # images to train and to test, for plans
    verify: bool = setting(science=False, default=True)  # false: accept files that differ from the original archive
    workers: int = setting(at_least(0), science=False, default=2)  # processes that decode images


@dataclass(kw_only=True)
class Model:
    name: str = setting(WORD)
    init: str = setting(one_of(*INITS))
    summary: bool = setting(science=False, default=False)  # print its layers and train nothing


@dataclass(kw_only=True)
class MLP(Model):
    depth: int = setting(at_least(2))
    width: int = setting(at_least(1))
    gain: float = setting(ABOVE_ZERO, default=1.0, before=1.0)  # of all weights, after their initialisation


@dataclass(kw_only=True)
class CifarModel(Model):
    stem_stride: int = setting(at_least(1), default=1, before=1)  # 2 halves every map


@dataclass(kw_only=True)
class ResNet(CifarModel):
    blocks: list[int] = setting(each(at_least(1)))
    width: int = setting(at_least(1))


@dataclass(kw_only=True)
class ImageNetResNet(Model):
    blocks: list[int] = setting(each(at_least(1)))
    width: int = setting(at_least(1))


@dataclass(kw_only=True)
class DenseNet(CifarModel):
    blocks: list[int] = setting(each(at_least(1)))
    growth: int = setting(at_least(1))


@dataclass(kw_only=True)
class ResNeXt(CifarModel):
    depth: int = setting(at_least(2))
    cardinality: int = setting(at_least(1))
    width: int = setting(at_least(1))
    stem: int = setting(at_least(1))


@dataclass(kw_only=True)
class WideResNet(CifarModel):
    depth: int = setting(at_least(2))
    widen: int = setting(at_least(1))


@dataclass(kw_only=True)
class OtherModel(Model):
    """A user's own network: a class called with num_classes, init and `arguments`."""

    init: str = setting(one_of(*INITS), default="torch")
    class_path: str = setting()  # module.Class or file.py:Class
    arguments: dict[str, Any] = setting(default_factory=dict)
    code: str | None = setting(default=None, before=None)  # set by the program: what the class contains


@dataclass(kw_only=True)
class Optimizer:
    name: str = setting(WORD)
    lr: float = setting(RATE)


@dataclass(kw_only=True)
class SGD(Optimizer):
    momentum: float = setting(MOMENTUM)
    weight_decay: float = setting(RATE)
    nesterov: bool = setting(default=False, before=False)
    dampening: float = setting(RATE, default=0.0, before=0)


@dataclass(kw_only=True)
class Adagrad(Optimizer):
    initial_accumulator_value: float = setting(RATE)
    weight_decay: float = setting(RATE)


@dataclass(kw_only=True)
class RMSprop(Optimizer):
    weight_decay: float = setting(RATE)


@dataclass(kw_only=True)
class Adam(Optimizer):
    weight_decay: float = setting(RATE)


@dataclass(kw_only=True)
class PowerSGD(Optimizer):
    gamma: float = setting(GAMMA)
    momentum: float = setting(MOMENTUM)
    weight_decay: float = setting(RATE)
    lr_in_velocity: bool = setting()
    decay_after_power: bool = setting()


@dataclass(kw_only=True)
class OtherOptimizer(Optimizer):
    """A user's own optimizer, given by one YAML file; training/build.py says which classes are accepted."""

    class_path: str = setting()  # torch.optim.AdamW, package.module.Class, or path/to/file.py:Class
    weight_decay: float | None = setting(RATE, default=None)  # null: not passed to the class
    arguments: dict[str, Any] = setting(default_factory=dict)  # its other keyword arguments
    code: str | None = setting(default=None, before=None)  # set by the program: what the class contains
    # Set by the program, for the controls with weight decay; before, these rescaled the decay with the gradient.
    decay_after_scaling: bool | None = setting(default=None, before=None)
    grid: dict[str, Any] = setting(science=False, default_factory=dict)  # the values that `also` tries, by setting


@dataclass(kw_only=True)
class Schedule:
    name: str = setting(WORD)


@dataclass(kw_only=True)
class Constant(Schedule):
    pass


@dataclass(kw_only=True)
class Step(Schedule):
    milestones: list[int] = setting(RISING)  # epochs after which lr is multiplied by factor
    factor: float = setting(SHARE)


@dataclass(kw_only=True)
class WarmRestarts(Schedule):
    first: int = setting(at_least(1))  # epochs of the first cosine cycle, T_0
    longer: int = setting(at_least(1))  # each cycle is this many times the one before, T_mult


@dataclass(kw_only=True)
class Source:
    name: str = setting(WORD)
    lr_in_velocity: bool = setting()
    weight_decay: dict[str, float] = setting(Rule(lambda each: min(each.values()) >= 0, "at least 0"))  # per data set


@dataclass(kw_only=True)
class Stop:
    dead: bool = setting(default=False)  # end when the first layer's gradient was exactly 0 for a whole epoch
    success: float | None = setting(SHARE, default=None)  # end when an epoch's running train accuracy reaches this


@dataclass(kw_only=True)
class Protocol:
    """Section 4.1: how sweep.py chooses a setting for each grid entry; see sweeps/protocol.py."""

    tune: bool = setting(default=False)  # false: train the grid and choose nothing
    select_on: str = setting(one_of("test", "validation"), default="test")  # test is the paper's way
    seeds: list[int] = setting(each(SEED), default_factory=lambda: [100])  # of the runs that select
    finalists: int = setting(at_least(0), default=0)  # settings tried with all seeds, after the first; 0: every setting
    refine: list[str] = setting(default_factory=list)  # grid entries whose lr is refined
    extend: bool = setting(default=False)  # try the best setting's neighbours until it is not at the edge
    similar: float = setting(at_least(0), default=0.001)  # accuracies this close are similar, and the faster wins
    reach: float = setting(SHARE, default=0.95)  # "faster" is fewer epochs to this share of the best accuracy
    validation: int = setting(at_least(1), default=5000)  # held out under select_on=validation, at most a tenth


@dataclass(kw_only=True)
class Wandb:
    """For what is null, W&B decides: WANDB_PROJECT and similar variables, `wandb init`, its own default."""

    mode: str = setting(one_of("auto", "online", "offline", "disabled"), default="auto")
    project: str | None = setting(default=None)
    entity: str | None = setting(default=None)
    group: str | None = setting(default=None)
    tags: list[str] = setting(default_factory=list)  # in addition to those that every run has
    notes: str | None = setting(default=None)
    system: str = setting(one_of("auto", "always", "never"), default="auto")  # statistics of the machine
    log_every: int | None = setting(at_least(1), default=None)  # batches
    artifacts: str = setting(one_of("none", "tables", "checkpoints"), default="none")
    folder: str | None = setting(default=None)  # of W&B's files, outside the runs' own folders


@dataclass(kw_only=True)
class Launcher:
    """Where sweep.py trains its runs; configs/launcher/ says which of these settings each launcher reads."""

    name: str = setting(one_of("here", "local", "ray", "slurm"), default="here")
    workers: int | None = setting(at_least(1), default=None)
    gpus: int | None = setting(at_least(0), default=None)
    runs_per_gpu: int | None = setting(at_least(1), default=None)
    gpus_per_run: int = setting(at_least(1), default=1)
    gpu: str | None = setting(default=None)
    address: str | None = setting(default=None)
    cpus: int | None = setting(at_least(1), default=None)
    partition: str | None = setting(default=None)
    account: str | None = setting(default=None)
    gpus_per_node: int | None = setting(at_least(0), default=None)
    minutes: int = setting(at_least(1), default=240)
    memory_gb: int | None = setting(at_least(1), default=None)
    array: int = setting(at_least(1), default=256)
    signal_seconds: int = setting(at_least(1), default=120)
    output: str | None = setting(default=None)
    options: dict[str, Any] = setting(default_factory=dict)


def how(default: Any = MISSING, rule: Rule | None = None, **options) -> Any:
    """A setting of what a run is for, or where and how it runs: not part of its identity."""
    return setting(rule, science=False, default=default, **options)


@dataclass(kw_only=True)
class Config:
    # What is computed
    dataset: Dataset = setting()
    model: Model = setting()
    optimizer: Optimizer = setting()
    schedule: Schedule = setting()
    epochs: int = setting(at_least(1))
    batch_size: int = setting(at_least(1))
    seed: int = setting(SEED)
    precision: str = setting(one_of("fp32", "tf32", "bf16", "fp16"), default="fp32")
    batch_statistics: int | None = setting(default=None)  # images in one BatchNorm statistic; null = the batch
    stop: Stop = setting(default_factory=Stop)
    evaluate_train: bool = setting(default=False)
    evaluations: int = setting(at_least(1), default=1, before=1)  # of the test set in an epoch, the last at its end
    layer_norms: bool = setting(default=False, before=False)  # an MLP's amplification, layer by layer
    format: int = setting(default=FORMAT)

    # What it is for, where and how it runs
    experiment: str | None = how(None)
    experiments: list[str] = how(default_factory=list)
    tier: str = how("paper", one_of(*TIERS))
    source: Source | None = how(None)
    unavailable_reason: str | None = how(None)  # why this experiment does not exist at this tier
    seeds: list[int] = how(rule=each(SEED), default_factory=list)
    grid: dict[str, Any] = how(default_factory=dict)
    protocol: Protocol = how(default_factory=Protocol)
    also: list[str] = how(default_factory=list)
    only: list[str] = how(default_factory=list)
    plan: bool = how(False)
    status: bool = how(False)
    watch: bool = how(False)
    calibrate: bool = how(False)
    decide: float | None = how(None, ABOVE_ZERO)
    merge: str | None = how(None)
    verify: bool = how(False)
    archive: bool = how(False)
    rerun: str | None = how(None)
    planned: str | None = how(None)  # set by sweep.py: the id that the plan expects
    budget: float = how(12.0, at_least(0))
    retry: bool = how(False)
    report: bool = how(False)
    launcher: Launcher = how(default_factory=Launcher)
    device: str = how("auto")
    threads: int = how(1, at_least(1))
    accumulate: int = how(1, at_least(1))
    channels_last: bool = how(True)
    compile: str = how("none", one_of("none", "default", "reduce-overhead"))
    deterministic: bool = how(True)
    cudnn_benchmark: bool = how(False)
    sync_batchnorm: bool = how(False)
    results: str = how("results")
    runs: str = how("results/runs")
    data_dir: str = how("downloads")
    checkpoint_seconds: float = how(60.0, at_least(0))
    keep: str = how("all", one_of("all", "weights", "none"))
    wandb: Wandb = how(default_factory=Wandb)
    progress: bool = how(True)


# By the name of the chosen option; any other name is a user's own.
MODELS = {"mlp": MLP, "resnet50": ResNet, "resnet50_imagenet": ImageNetResNet, "densenet121": DenseNet,
          "resnext29": ResNeXt, "wrn26": WideResNet}  # fmt: skip
OPTIMIZERS = {"sgd": SGD, "sgdm": SGD, "adagrad": Adagrad, "rmsprop": RMSprop, "adam": Adam, "powersgd": PowerSGD,
              "powersgdm": PowerSGD}  # fmt: skip
SCHEDULES = {"constant": Constant, "step": Step, "warm_restarts": WarmRestarts}

RETIRED = {"refused"}  # keys in configs of earlier versions; none was ever part of an identity


def walk(config: dict, kind: type = Config, prefix: str = "", science: bool = True) -> Iterator[Setting]:
    """Every setting of a plain config, including those in its sections.

    Raises ConfigError for an unknown key, naming the nearest known one, and for a value in place of a section.
    """
    known = _fields(kind)
    for key, value in config.items():
        path = f"{prefix}{key}"
        if key not in known:
            if path in RETIRED:
                continue
            close = difflib.get_close_matches(str(key), known, n=1)
            there = f"there are {', '.join(known)}" if prefix else "'python train.py --cfg job' lists all"
            raise ConfigError(f"unknown setting {path}: {f'did you mean {prefix}{close[0]}?' if close else there}")
        part = known[key]
        counts = science and part.metadata["science"]
        section = section_kind(path, part, value)
        if section is None:
            yield Setting(path, part, value, counts)
        else:
            yield from walk(value, section, f"{path}.", counts)


@functools.cache  # a plan walks thousands of configs
def _fields(kind: type) -> dict[str, Field]:
    return {part.name: part for part in fields(kind)}


@functools.cache
def _sections(part: Field) -> tuple[list[Any], bool]:
    """The dataclasses among a field's types, and whether it may be None."""
    kinds = part.type, *get_args(part.type)
    return [one for one in kinds if is_dataclass(one)], type(None) in kinds


def section_kind(path: str, part: Field, value: Any) -> type | None:
    """The dataclass of a section, which in a config group depends on the chosen name; None for a single setting."""
    kinds, optional = _sections(part)
    if not kinds or (value is None and optional):
        return None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}={value}: choose one of the options in configs/{path}/")
    name = value.get("name")
    if kinds[0] is Schedule and name not in SCHEDULES:
        raise ConfigError(f"schedule.name={name}: choose one of {', '.join(SCHEDULES)}")
    table, other = {
        Model: (MODELS, OtherModel), Optimizer: (OPTIMIZERS, OtherOptimizer), Schedule: (SCHEDULES, None)
    }.get(kinds[0], ({}, kinds[0]))  # fmt: skip
    found = table.get(name, other)
    if found in (OtherModel, OtherOptimizer) and "class_path" not in value:
        raise ConfigError(f"{path}.name={name}: choose one of {', '.join(table)}, or give a class_path")
    return found


def check(config: dict, checked: dict | None = None) -> None:
    """Check names, types, ranges and combinations in a whole plain config. Raises ConfigError at the first mistake.

    checked: a config that has passed; sections and values that are the same objects there are not looked at again.
    """
    _check_complete(config)
    same = checked or {}
    for path, part, value, _ in walk({key: one for key, one in config.items() if one is not same.get(key, MISSING)}):
        _check_type(path, part, value)
        rule = part.metadata["rule"]
        if rule and value is not None and not rule.holds(value):
            raise ConfigError(f"{path}={value}: must be {rule.words}")
    if config["unavailable_reason"]:
        raise ConfigError(config["unavailable_reason"])
    dataset = config["dataset"]
    channels = dataset["image_shape"][0]
    for key in ("mean", "std"):
        if len(dataset[key]) != channels:
            raise ConfigError(f"dataset.{key}={dataset[key]}: must have {channels} numbers, one a channel")
    if dataset["subset"] is not None and dataset["validation"] >= dataset["subset"]:
        raise ConfigError(
            f"dataset.validation={dataset['validation']}: must be below dataset.subset={dataset['subset']}"
        )
    if dataset["sizes"] and config["batch_size"] > dataset["sizes"][0]:
        raise ConfigError(f"batch_size={config['batch_size']}: {dataset['name']} has {dataset['sizes'][0]} images")
    if config["layer_norms"] and config["model"]["name"] != "mlp":
        raise ConfigError(f"layer_norms=true works only with model=mlp, not {config['model']['name']}")
    if config["accumulate"] > config["batch_size"]:
        raise ConfigError(f"accumulate={config['accumulate']}: must be at most batch_size={config['batch_size']}")


def _check_complete(config: dict, kind: type = Config, prefix: str = "") -> None:
    for part in _fields(kind).values():
        path = f"{prefix}{part.name}"
        if part.name in config:
            section = section_kind(path, part, config[part.name])
            if section is not None:
                _check_complete(config[part.name], section, f"{path}.")
        elif part.default is MISSING and part.default_factory is MISSING:
            raise ConfigError(f"{path} is missing: {prefix}name={config.get('name')} needs it")


def _check_type(path: str, part: Field, value: Any) -> None:
    if not _right(part)(value):
        kind = part.type
        name = kind.__name__ if isinstance(kind, type) and not get_origin(kind) else str(kind).replace("typing.", "")
        raise ConfigError(f"{path}={value}: must be {name}")
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, float) and not math.isfinite(number):
            raise ConfigError(f"{path}={number}: only finite numbers can name a run")


@functools.cache
def _right(part: Field) -> Callable[[Any], bool]:
    return _of_type(part.type)


def _of_type(kind: Any) -> Callable[[Any], bool]:
    """A test whether a plain value has a field's type; an int is also a float, a bool is neither."""
    if kind is Any:
        return lambda value: True
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        tests = [_of_type(one) for one in arguments]
        return lambda value: any(right(value) for right in tests)
    if origin is list:
        each_one = _of_type(arguments[0])
        return lambda value: isinstance(value, list) and all(map(each_one, value))
    if origin is dict:
        each_value = _of_type(arguments[1])
        return lambda value: isinstance(value, dict) and all(map(each_value, value.values()))
    if is_dataclass(kind):
        return lambda value: value is None
    if kind in (int, float):
        return lambda value: isinstance(value, (int, kind)) and not isinstance(value, bool)
    return lambda value: isinstance(value, kind)


def build(config: dict, kind: type = Config, prefix: str = "") -> Any:
    """The dataclasses for a plain config that has passed `check`; ints become floats where the type is float."""
    values = {}
    for part in fields(kind):
        if part.name not in config:
            continue
        value = config[part.name]
        section = section_kind(f"{prefix}{part.name}", part, value)
        if section is not None:
            value = build(value, section, f"{prefix}{part.name}.")
        elif float in (part.type, *get_args(part.type)) and value is not None:
            value = [float(one) for one in value] if isinstance(value, list) else value
            value = float(value) if isinstance(value, int) else value
        values[part.name] = value
    return kind(**values)


def batch_statistics(config: dict, processes: int) -> int | None:
    """The number of images that BatchNorm takes its statistics over; None if it is the whole batch.

    Splitting a batch over processes or into accumulated parts changes what BatchNorm computes, so this is part of a
    run's identity. The MLP has no BatchNorm.
    """
    parts = config["accumulate"] * (1 if config["sync_batchnorm"] else processes)
    return None if parts == 1 or config["model"]["name"] == "mlp" else config["batch_size"] // parts
