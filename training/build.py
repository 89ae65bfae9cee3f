"""From config to objects: the one place that knows which name means which class."""

import importlib
import importlib.util
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LambdaLR, MultiStepLR

from data import cifar, mnist, synthetic
from data.augment import crop_flip, draw_crop_flip
from data.errors import DataError
from data.imagenet import ImageFolderDataset
from data.tensors import TensorDataset, balanced_subset, hold_out
from models import MODELS
from optimizers import PowerSGD
from runs.schema import Config, ConfigError, Dataset, OtherOptimizer

from .distributed import World

ROOT = Path(__file__).resolve().parent.parent
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
    """The training and the test set on the device, of which this process serves its share."""
    train_set, _, test_set = build_splits(config, device, world)
    return train_set, test_set


def build_splits(config: Config, device: torch.device, world: World = World()):  # noqa: B008
    """Training, validation and test set, as build_data; the second is None if nothing is held out of the first."""
    spec = config.dataset
    options = {"mean": spec.mean, "std": spec.std, "device": device, "shard": (world.rank, world.size)}
    options["num_classes"] = spec.num_classes
    if spec.name == "imagenet":
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
    spec = config.dataset
    if spec.name in ("mnist", "cifar10", "cifar100"):
        return read_split(spec.name, config.data_dir, train, spec.verify)
    if spec.name == "synthetic":
        return synthetic.load(train, image_shape=spec.image_shape, num_classes=spec.num_classes)
    raise ConfigError(f"dataset.name={spec.name}: choose one of the options in configs/dataset/")


@lru_cache(maxsize=2)  # verifying and unpacking takes longer than a short run; a worker of a sweep does it once
def read_split(name: str, data_dir: str, train: bool, verify: bool) -> tuple[Tensor, Tensor]:
    """A split of files, as its module's `load`. What it returns is shared and not to be written to."""
    if name == "mnist":
        return mnist.load(data_dir, train)
    return cifar.load(data_dir, train, name=name, verify=verify)


def build_model(config: Config) -> nn.Module:
    """The network, on the CPU, initialised from torch's global generator."""
    arguments = {k: v for k, v in vars(config.model).items() if k not in ("name", "summary")}
    channels, height, width = config.dataset.image_shape
    if config.model.name == "mlp":
        arguments["in_features"] = channels * height * width
    elif channels != 3:
        raise ConfigError(
            f"model={config.model.name} takes images with 3 channels, {config.dataset.name} has {channels}"
        )
    try:
        return MODELS[config.model.name](num_classes=config.dataset.num_classes, **arguments)
    except ValueError as error:
        raise ConfigError(f"model={config.model.name}: {error}") from None


def build_network(config: Config, model: nn.Module, device: torch.device, world: World) -> nn.Module:
    """What a step calls: the model, spread over the processes and compiled as the config says.

    Raises ConfigError for sync_batchnorm off CUDA, where torch has none.
    """
    network = model
    if world.size > 1:
        if config.sync_batchnorm:
            if device.type != "cuda":
                raise ConfigError(f"sync_batchnorm=true needs CUDA, torch's SyncBatchNorm refuses {device.type}")
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        network = DistributedDataParallel(network, device_ids=[world.local_rank] if device.type == "cuda" else None)
    if config.compile != "none":
        network = torch.compile(network, mode=config.compile)
    return network


def build_optimizer(config: Config, params) -> torch.optim.Optimizer:
    if isinstance(config.optimizer, OtherOptimizer):
        return _other_optimizer(config.optimizer, params)
    arguments = {k: v for k, v in vars(config.optimizer).items() if k != "name"}
    return OPTIMIZERS[config.optimizer.name](params, **arguments)


def _other_optimizer(spec: OtherOptimizer, params) -> torch.optim.Optimizer:
    arguments = spec.arguments if spec.weight_decay is None else spec.arguments | {"weight_decay": spec.weight_decay}
    try:
        return load_class(spec.class_path)(params, lr=spec.lr, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer={spec.name}: {spec.class_path} refuses its arguments: {error}") from None


def load_class(path: str) -> type[torch.optim.Optimizer]:
    """An optimizer's class: torch.optim.X, optimizers.module.X, or file.py:X, below the project unless absolute.

    Raises ConfigError if there is none.
    """
    file, _, name = path.rpartition(":")
    module, _, last = path.rpartition(".")
    try:
        if file:
            spec = importlib.util.spec_from_file_location(Path(file).stem, ROOT / file)
            found = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(found)
            made = getattr(found, name)
        elif module == "torch.optim" or module.split(".")[0] == "optimizers":
            made = getattr(importlib.import_module(module), last)
        else:
            raise ConfigError(f"optimizer.class_path={path}: name torch.optim.X, optimizers.module.X or file.py:X")
    except (ImportError, AttributeError, OSError, SyntaxError) as error:
        raise ConfigError(f"optimizer.class_path={path} cannot be loaded: {error}") from None
    if not (isinstance(made, type) and issubclass(made, torch.optim.Optimizer)):
        raise ConfigError(f"optimizer.class_path={path} is not a class of optimizers")
    return made


def build_schedule(config: Config, optimizer: torch.optim.Optimizer, steps_per_epoch: int):
    """A torch scheduler that is stepped after every batch."""
    spec = config.schedule
    if spec.name == "step":
        milestones = [epoch * steps_per_epoch for epoch in spec.milestones]
        return MultiStepLR(optimizer, milestones, gamma=spec.factor)
    if spec.name == "warm_restarts":
        return CosineAnnealingWarmRestarts(optimizer, spec.first * steps_per_epoch, T_mult=spec.longer)
    return LambdaLR(optimizer, lambda step: 1.0)
