"""The typed settings of `python -m theory` and their range checks. The values are in configs/theory.yaml."""

import math
import os
from dataclasses import dataclass

from runs.schema import ConfigError

from .names import ORACLES, PROBLEMS

ALONE = ("steps", "mnist", "batch")  # tables that are made from no other


@dataclass
class Realised:
    calls: dict[str, list[int]]  # problem: dimensions
    rows: dict[str, list[int]]
    horizons: list[int]


@dataclass
class Steps:
    dimension: int
    horizon: int
    betas: list[float]
    multiples: list[float]  # constant steps, as multiples of the mean adaptive step at x_1


@dataclass
class Mnist:
    run: bool
    gammas: list[float]
    steps: int
    batch: int
    tuning_seed: int
    seeds: list[int]
    lrs: list[float]
    multiples: list[float]  # L as multiples of the estimate at x_1
    images: int  # for the estimate of L and the loss that is shown
    iterations: int  # of the power method


@dataclass
class Batch:
    run: bool
    lr: float
    path_gamma: float  # of the PowerSGD whose path is followed
    epochs: list[int]  # where it is looked at; 0 is the start
    gammas: list[float]
    sizes: list[int]
    draws: int  # of a batch, in each of two independent halves, at most
    images: int  # in a half, at most
    seeds: list[int]


@dataclass
class Thresholds:
    level: float
    rounding: float
    slope: float
    variance: float
    cosine: float


@dataclass
class Theory:
    seed: int
    repetitions: int
    problems: dict[str, list[int]]  # problem: dimensions
    horizons: list[int]
    gammas: list[float]
    betas: list[float]
    noise: float
    realised: Realised
    steps: Steps
    mnist: Mnist
    batch: Batch
    thresholds: Thresholds
    only: list[str]  # tables to measure now; the others stay as they are
    workers: int
    results: str
    data_dir: str
    redraw: bool
    progress: bool


def validate(settings: Theory) -> None:
    """Raises ConfigError on the first setting outside its range."""
    _all("repetitions", [settings.repetitions], lambda r: r >= 2, "at least 2")
    _all("workers", [settings.workers], lambda w: w >= 1, "at least 1")
    _all("seed", [settings.seed], lambda s: s >= 0, "at least 0")
    _all("noise", [settings.noise], lambda x: 0 < x < math.inf, "positive and finite")
    _all("only", settings.only, lambda table: table in ALONE, f"one of {', '.join(ALONE)}")
    for key in ("horizons", "gammas", "betas"):
        _some(key, getattr(settings, key))
    _some("mnist.seeds", settings.mnist.seeds)
    _some("mnist.lrs", settings.mnist.lrs)
    _some("mnist.multiples", settings.mnist.multiples)
    _some("steps.multiples", settings.steps.multiples)
    _all("horizons", settings.horizons + settings.realised.horizons, lambda t: t >= 1, "at least 1")
    _all("steps.dimension", [settings.steps.dimension], lambda n: n >= 2, "at least 2")
    _all("steps.horizon", [settings.steps.horizon], lambda t: t >= 1, "at least 1")
    for key in ("steps", "batch", "images", "iterations"):
        _all(f"mnist.{key}", [getattr(settings.mnist, key)], lambda k: k >= 1, "at least 1")
    for key, values in (("steps", settings.steps.multiples), ("mnist", settings.mnist.multiples)):
        _all(f"{key}.multiples", values, lambda m: 0 < m < math.inf, "positive and finite")
    for key in ("epochs", "gammas", "sizes", "seeds"):
        _some(f"batch.{key}", getattr(settings.batch, key))
    _all("batch.epochs", settings.batch.epochs, lambda epoch: epoch >= 0, "at least 0")
    _all("batch.sizes", settings.batch.sizes, lambda size: size >= 1, "at least 1")
    for key in ("draws", "images"):
        _all(f"batch.{key}", [getattr(settings.batch, key)], lambda k: k >= 1, "at least 1")
    _all("batch.lr", [settings.batch.lr], lambda lr: 0 < lr < math.inf, "positive and finite")
    _all("mnist.lrs", settings.mnist.lrs, lambda lr: 0 < lr < math.inf, "positive and finite")
    _all(
        "gammas",
        settings.gammas + settings.mnist.gammas + settings.batch.gammas + [settings.batch.path_gamma],
        lambda g: 0 <= g <= 1,
        "in [0, 1]",
    )
    _all("betas", settings.betas + settings.steps.betas, lambda b: 0 <= b < 1, "in [0, 1)")
    _all("thresholds.cosine", [settings.thresholds.cosine], lambda cosine: 0 < cosine <= 1, "in (0, 1]")
    _all("thresholds.level", [settings.thresholds.level], lambda level: 0 < level < 1, "in (0, 1)")
    groups = {"problems": settings.problems}
    groups |= {f"realised.{kind}": getattr(settings.realised, kind) for kind in ORACLES[1:]}
    for key, chosen in groups.items():
        for problem, dimensions in chosen.items():
            if problem not in PROBLEMS:
                raise ConfigError(f"{key}={problem}: choose one of {', '.join(PROBLEMS)}")
            _all(f"{key}.{problem}", dimensions, lambda n: n >= 2, "at least 2")
    if set(settings.realised.rows) - {"robust"}:
        raise ConfigError(f"realised.rows={list(settings.realised.rows)}: only robust has rows to draw")
    _writable(settings.results)


def _some(key: str, values: list) -> None:
    if not values:
        raise ConfigError(f"{key}=[]: at least one value")


def _all(key: str, values: list, holds, allowed: str) -> None:
    for value in values:
        if not holds(value):
            raise ConfigError(f"{key}: {value} must be {allowed}")


def _writable(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(0, "no permission")
    except OSError as error:
        raise ConfigError(f"results={folder} cannot be written ({error.strerror}); choose another folder") from None
