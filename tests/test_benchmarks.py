"""The benchmarks measure the suite as it is: their loops run."""

import torch

from benchmarks import cnn_step, mnist_epoch
from data import synthetic
from runs import schema


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
        cnn_step.our_steps(cnn_step.MODELS["wrn26"], data, **changes)()
