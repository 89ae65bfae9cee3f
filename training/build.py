"""From config to objects: the one place that knows which name means which class."""

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from data import mnist
from data.tensors import TensorDataset, balanced_subset
from models.mlp import MLP
from optimizers import PowerSGD

from .config import ConfigError

DATASETS = {"mnist": mnist.load}
OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "sgdm": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "powersgd": PowerSGD,
    "powersgdm": PowerSGD,
}


def build_data(config, device: torch.device) -> tuple[TensorDataset, TensorDataset]:
    """The training and the test set, on the device."""
    spec = config.dataset
    options = {"num_classes": spec.num_classes, "mean": spec.mean, "std": spec.std, "device": device}
    images, labels = DATASETS[spec.name](config.data_dir, train=True)
    if spec.subset is not None:
        chosen = balanced_subset(labels, spec.subset, spec.num_classes)
        images, labels = images[chosen], labels[chosen]
    train_set = TensorDataset(images, labels, **options)
    return train_set, TensorDataset(*DATASETS[spec.name](config.data_dir, train=False), **options)


def build_model(config) -> nn.Module:
    """The network, on the CPU, initialised from torch's global generator."""
    channels, height, width = config.dataset.image_shape
    arguments = {k: v for k, v in vars(config.model).items() if k != "name"}
    try:
        return MLP(in_features=channels * height * width, num_classes=config.dataset.num_classes, **arguments)
    except ValueError as error:
        raise ConfigError(f"model={config.model.name}: {error}") from None


def build_optimizer(config, params) -> torch.optim.Optimizer:
    arguments = {k: v for k, v in vars(config.optimizer).items() if k != "name"}
    return OPTIMIZERS[config.optimizer.name](params, **arguments)


def build_schedule(config, optimizer: torch.optim.Optimizer, steps_per_epoch: int):
    """A torch scheduler that is stepped after every batch."""
    return LambdaLR(optimizer, lambda step: 1.0)
