"""From config to objects: the one place that knows which name means which class."""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LambdaLR, MultiStepLR

from data import cifar, mnist, synthetic
from data.augment import crop_flip, draw_crop_flip
from data.errors import DataError
from data.imagenet import ImageFolderDataset
from data.tensors import TensorDataset, balanced_subset, fingerprint, hold_out
from models import MODELS
from optimizers import PowerSGD
from runs.code import load
from runs.schema import Config, ConfigError, Dataset, Model, OtherModel, OtherOptimizer, Step, WarmRestarts
from runs.schema import PowerSGD as PowerSGDSettings

from .distributed import World

AUGMENT = {"none": (None, None), "crop_flip": (crop_flip, draw_crop_flip)}
OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "sgdm": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "powersgd": PowerSGD,
    "powersgdm": PowerSGD,
}


def build_data(config: Config, device: torch.device, world: World = World()):  # noqa: B008
    """The training and the test set on the device; under torchrun each process serves its own shard."""
    train_set, _, test_set = build_splits(config, device, world)
    return train_set, test_set


def build_splits(config: Config, device: torch.device, world: World = World()):  # noqa: B008
    """As build_data, with the validation set between the two: None if nothing is held out of the training set."""
    spec = config.dataset
    options = {"mean": spec.mean, "std": spec.std, "device": device, "shard": (world.rank, world.size)}
    options["num_classes"] = spec.num_classes
    if spec.name == "imagenet":
        if spec.augment != "resized_crop_flip":
            raise ConfigError(f"dataset.augment={spec.augment}: imagenet has resized_crop_flip")
        root = Path(config.data_dir) / spec.folder
        options |= {"workers": spec.workers, "on_error": spec.on_error, "size": spec.image_shape[-1]}
        train_set = ImageFolderDataset(root, train=True, subset=spec.subset, **options)
        test_set = ImageFolderDataset(root, train=False, subset=spec.test_subset, **options)
        if not spec.validation:
            return train_set, None, test_set
        others, held = _hold_out(train_set.labels, spec)
        return train_set.select(others), train_set.select(held), test_set
    images, labels = _subset(*_load(config, train=True), spec, "subset")
    validation_set = None
    if spec.validation:
        others, held = _hold_out(labels, spec)
        validation_set = TensorDataset(images[held], labels[held], **options)
        images, labels = images[others], labels[others]
    if spec.augment not in AUGMENT:
        raise ConfigError(f"dataset.augment={spec.augment}: {spec.name} has {' and '.join(AUGMENT)}")
    augment, draw = AUGMENT[spec.augment]
    train_set = TensorDataset(images, labels, augment=augment, draw=draw, **options)
    test = _subset(*_load(config, train=False), spec, "test_subset")
    return train_set, validation_set, TensorDataset(*test, **options)


def _subset(images: Tensor, labels: Tensor, spec: Dataset, key: str) -> tuple[Tensor, Tensor]:
    size = getattr(spec, key)
    if size is None:
        return images, labels
    try:
        chosen = balanced_subset(labels, size, spec.num_classes)
    except ValueError as error:
        raise DataError(f"dataset.{key}={size}: {error}") from None
    return images[chosen], labels[chosen]


def _hold_out(labels: Tensor, spec: Dataset) -> tuple[Tensor, Tensor]:
    try:
        return hold_out(labels, spec.validation, spec.num_classes)
    except ValueError as error:
        raise DataError(f"dataset.validation={spec.validation}: {error}") from None


def _load(config: Config, train: bool) -> tuple[Tensor, Tensor]:
    """The full split as its source gives it. Raises ConfigError if shape or labels contradict the config."""
    spec = config.dataset
    if spec.load:
        images, labels = load(spec.load, spec.code)(config.data_dir, train)
    elif spec.name in ("mnist", "cifar10", "cifar100"):
        images, labels = read_split(spec.name, config.data_dir, train, spec.verify)
    elif spec.name == "synthetic":
        images, labels = synthetic.load(train, image_shape=spec.image_shape, num_classes=spec.num_classes)
    else:
        raise ConfigError(f"dataset.name={spec.name}: choose an option in configs/dataset/, or give dataset.load")
    if list(images.shape[1:]) != list(spec.image_shape):
        raise ConfigError(f"dataset.image_shape={spec.image_shape}: {spec.name} has images {list(images.shape[1:])}")
    if int(labels.max()) >= spec.num_classes:
        raise ConfigError(f"dataset.num_classes={spec.num_classes}: {spec.name} has labels up to {int(labels.max())}")
    return images, labels


@lru_cache(maxsize=2)  # verifying and unpacking takes longer than a short run; a sweep's worker does it only once
def read_split(name: str, data_dir: str, train: bool, verify: bool) -> tuple[Tensor, Tensor]:
    """A split of MNIST or CIFAR, as that module's `load` returns it. The tensors are shared: do not write to them."""
    if name == "mnist":
        return mnist.load(data_dir, train)
    return cifar.load(data_dir, train, name=name, verify=verify)


@lru_cache(maxsize=2)
def files_fingerprint(name: str, data_dir: str, verify: bool) -> str:
    """The fingerprint of both full splits; which subset a run takes of them is in its config."""
    parts = [tensor for train in (True, False) for tensor in read_split(name, data_dir, train, verify)]
    return fingerprint(*parts)[:12]


def data_fingerprint(config: Config, train_set, test_set) -> str:
    """12 hex digits that identify a run's training and test data, recorded with the run because files may change."""
    spec = config.dataset
    if spec.name in ("mnist", "cifar10", "cifar100") and not spec.load:
        return files_fingerprint(spec.name, config.data_dir, spec.verify)
    if isinstance(train_set, ImageFolderDataset):
        return hashlib.sha256((train_set.fingerprint() + test_set.fingerprint()).encode()).hexdigest()[:12]
    return fingerprint(*_load(config, train=True), *_load(config, train=False))[:12]


def build_model(config: Config) -> nn.Module:
    """The network, on the CPU, initialised from torch's global generator."""
    return make_network(config.model, config.dataset.image_shape, config.dataset.num_classes)


def make_network(spec: Model, image_shape: list[int], num_classes: int) -> nn.Module:
    """The network that `spec` describes, for images [channels, height, width]. Raises ConfigError."""
    channels, height, width = image_shape
    try:
        if isinstance(spec, OtherModel):
            return load(spec.class_path, spec.code)(num_classes=num_classes, init=spec.init, **spec.arguments)
        arguments = {key: value for key, value in vars(spec).items() if key not in ("name", "summary")}
        if spec.name == "mlp":
            arguments["in_features"] = channels * height * width
        elif channels != 3:
            raise ValueError(f"it takes images with 3 channels, and this data set's have {channels}")
        return MODELS[spec.name](num_classes=num_classes, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model={spec.name}: {error}") from None


def build_network(config: Config, model: nn.Module, device: torch.device, world: World) -> nn.Module:
    """What a step calls: the model, wrapped in DDP and compiled as the config says.

    Raises ConfigError for sync_batchnorm without CUDA, where torch does not support it.
    """
    network = model
    if world.size > 1:
        if config.sync_batchnorm:
            if device.type != "cuda":
                raise ConfigError(f"sync_batchnorm=true needs CUDA, torch's SyncBatchNorm refuses {device.type}")
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        network = DistributedDataParallel(network, device_ids=[world.local_rank] if device.type == "cuda" else None)
    return compiled(config, network)


def compiled(config: Config, network: nn.Module) -> nn.Module:
    """The network, compiled as the config says."""
    if config.compile == "none":
        return network
    # The last batch of an epoch is smaller. Two graphs, one for each size, are faster than one dynamic graph.
    return cast(nn.Module, torch.compile(network, mode=config.compile, dynamic=False))


def build_optimizer(config: Config, params) -> torch.optim.Optimizer:
    if isinstance(config.optimizer, OtherOptimizer):
        return _other_optimizer(config.optimizer, params)
    arguments = {k: v for k, v in vars(config.optimizer).items() if k != "name"}
    if isinstance(config.optimizer, PowerSGDSettings):
        arguments["fused"] = config.compile != "none"
    return OPTIMIZERS[config.optimizer.name](params, **arguments)


def _other_optimizer(spec: OtherOptimizer, params) -> torch.optim.Optimizer:
    arguments = spec.arguments if spec.weight_decay is None else spec.arguments | {"weight_decay": spec.weight_decay}
    try:
        return load_class(spec.class_path, spec.code)(params, lr=spec.lr, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer={spec.name}: {spec.class_path} refuses its arguments: {error}") from None


def load_class(path: str, code: str | None) -> Callable[..., torch.optim.Optimizer]:
    """The optimizer class at a path, found by runs.code.load. Raises ConfigError if it is not an optimizer class."""
    made = load(path, code)
    if not (isinstance(made, type) and issubclass(made, torch.optim.Optimizer)):
        raise ConfigError(f"optimizer.class_path={path} is not a class of optimizers")
    return made


def build_schedule(config: Config, optimizer: torch.optim.Optimizer, steps_per_epoch: int):
    """A torch scheduler that is stepped after every batch."""
    spec = config.schedule
    if isinstance(spec, Step):
        milestones = [epoch * steps_per_epoch for epoch in spec.milestones]
        return MultiStepLR(optimizer, milestones, gamma=spec.factor)
    if isinstance(spec, WarmRestarts):
        return CosineAnnealingWarmRestarts(optimizer, spec.first * steps_per_epoch, T_mult=spec.longer)
    return LambdaLR(optimizer, lambda step: 1.0)
