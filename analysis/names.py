"""The names of optimizers and networks on pictures and in tables; anything not listed keeps its own name."""

import re

from analysis.records import EXPERIMENTS

OPTIMIZERS = {"sgd": "SGD", "sgdm": "SGDM", "sgdr": "SGDR", "powersgd": "PowerSGD", "powersgdm": "PowerSGDM",
              "powersgdr": "PowerSGDR", "sgdm-cosine": "SGDM, cosine", "powersgd-cosine": "PowerSGD, cosine",
              "adagrad": "AdaGrad", "rmsprop": "RMSprop", "adam": "Adam",
              "sign": "sign of the gradient", "rescaled_sgd": "SGD with PowerSGD's step length",
              "normalised_sgd": "SGD with step length lr",
              "tensorwise_rescaled_sgd": "SGD, PowerSGD's length per tensor",
              "tensorwise_rescaled_sgdr": "SGDR, PowerSGD's length per tensor",
              "tensorwise_normalised_sgd": "SGD, length lr per tensor",
              "raw": "SGD, inputs in [0, 1]", "normalised": "SGD, normalised inputs", "initialised": "SGD"}  # fmt: skip
TICKS = {"tensorwise_rescaled_sgd": "length\nper tensor", "rescaled_sgd": "one length", "normalised_sgd": "length lr"}
OPTIMIZERS |= {f"{name}-other": f"{OPTIMIZERS[name]}, other finalist"
               for name in ("sgdm", "powersgd", "powersgdm", "adagrad", "rmsprop", "adam")}  # fmt: skip
INITS = {"he": "He", "xavier": "Xavier", "lecun": "LeCun", "orthogonal": "orthogonal", "torch": "torch"}
NETWORKS = {"resnet50": "ResNet-50", "densenet121": "DenseNet-121", "wrn26": "WRN-26-10", "resnext29": "ResNeXt-29",
            "resnet50_imagenet": "ResNet-50"}  # fmt: skip
DATASETS = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet"}
PANELS = tuple(path.stem for path in sorted(EXPERIMENTS.glob("fig1??.yaml")))  # figure 1's experiments, a network each


def optimizer(entry: str) -> str:
    """The name of a grid entry: that of its label, and what distinguishes its settings."""
    label, comma, rest = entry.partition(",")
    return OPTIMIZERS.get(label, label) + comma + rest


def entry(text: str) -> str:
    """As `optimizer`, for pictures: in words, without the network at the beginning of a label."""
    network, dash, rest = text.partition("-")
    text = rest if dash and network in NETWORKS else text
    text = re.sub(r", init (\w+)", lambda found: f", {INITS.get(found[1], found[1])} initialisation", optimizer(text))
    return text.replace("_", " ")


def tick(text: str) -> str:
    """As `entry`, but short, where a legend has the whole name."""
    return TICKS.get(text, entry(text))


def task(model: str, dataset: str) -> str:
    return f"{NETWORKS.get(model, model)} on {DATASETS.get(dataset, dataset)}"
