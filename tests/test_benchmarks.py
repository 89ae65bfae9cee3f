"""The benchmarks measure the suite as it is: their loops run."""

import torch

from benchmarks import cnn_step, laptop_value, mnist_epoch
from data import synthetic
from runs import schema

from .helpers import composed


def test_the_suite_s_epoch_of_the_mnist_benchmark_runs(real_mnist, monkeypatch):
    monkeypatch.setattr(mnist_epoch, "ROOT", real_mnist)
    mnist_epoch.our_epoch(schema.SGD(name="sgd", lr=0.1, momentum=0.0, weight_decay=0.0))()
    monkeypatch.setattr(mnist_epoch, "STEPS", 2)
    mnist_epoch.floor_epoch()()


def test_the_steps_of_the_network_benchmark_run(monkeypatch):
    monkeypatch.setattr(cnn_step, "STEPS", 1)
    data = synthetic.load(True, image_shape=[3, 32, 32], num_classes=10, size=cnn_step.IMAGES)
    torch.set_num_threads(1)
    for changes in cnn_step.WAYS.values():
        cnn_step.our_steps(cnn_step.model_of("wrn26", "laptop"), data, **changes)()


def test_the_seconds_to_an_accuracy_are_those_of_the_first_epoch_that_has_it():
    small = ["dataset=synthetic", "model=mlp", "model.depth=2", "model.width=8", "dataset.subset=64", "epochs=2"]
    found = laptop_value.measured(small, {"train_acc": [0.0, 1.1], "test_acc": [1.1]})
    assert found["seconds to train_acc 1.1"] is None
    assert 0 < found["seconds to train_acc 0"] < found["seconds"] and found["seconds to test_acc 1.1"] is None
    assert 0 <= found["best test_acc"] <= 1


def test_the_designs_that_are_compared_are_the_tiers_regimes():
    designs = {name: composed(*overrides) for name, overrides in laptop_value.designs("resnet50").items()}
    about = {name: (one.epochs, one.dataset.subset, one.dataset.test_subset) for name, one in designs.items()}
    assert about == {"short": (15, 10000, None), "late": (160, 1280, 1000), "early": (5, None, 1000)}
    assert all(set(laptop_value.designs(network)) == {"late", "early"} for network in ("densenet121", "wrn26"))
