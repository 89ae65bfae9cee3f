"""By how much the Powerball function amplifies the gradient of each layer, against hand computations."""

import math

import pytest
import torch
import torch.nn.functional as F

from runs import cli
from runs.schema import ConfigError
from training.build import build_data, build_optimizer
from training.execute import execute
from training.trainer import Trainer

from .helpers import OPTIMIZERS, TRAIN_IMAGES, assert_same, composed, make_config, outcome

CPU = torch.device("cpu")
LAYERS = (1, 2, 3)


def norms_of(grad: torch.Tensor, gamma: float) -> tuple[float, float]:
    """|g|_2 and |sigma(g)|_2 / |g|_2, value by value in Python."""
    values = grad.flatten().tolist()
    norm = math.sqrt(math.fsum(value**2 for value in values))
    powered = math.sqrt(math.fsum((abs(value) ** gamma) ** 2 for value in values if value))
    return norm, powered / norm if norm else math.nan


def row_of(trainer: Trainer) -> dict:
    trainer.seconds = 1.0
    test_set = build_data(trainer.config, CPU)[1]
    return trainer.end_epoch(trainer.sums, trainer.evaluate(test_set))


def batch(config) -> tuple[torch.Tensor, torch.Tensor]:
    return next(iter(build_data(config, CPU)[0].epoch(0, 0, config.batch_size)))


def test_one_step_is_what_the_hand_computes(tmp_path, fake_mnist):
    config = make_config(tmp_path, layer_norms=True, epochs=1, batch_size=TRAIN_IMAGES)
    (row,) = execute(config).rows()
    model = Trainer(config, CPU, TRAIN_IMAGES).model
    F.cross_entropy(model(batch(config)[0]), batch(config)[1]).backward()
    for layer, linear in zip(LAYERS, model.layers, strict=True):
        norm, amplification = norms_of(linear.weight.grad, config.optimizer.gamma)
        assert row[f"amplification_{layer}"] == pytest.approx(amplification, rel=1e-5)
        assert row[f"grad_norm2_{layer}"] == pytest.approx(norm, rel=1e-5)
        assert amplification > 1.5  # so the above says something
    assert "amplification_4" not in row and "grad_norm2_4" not in row


@pytest.mark.parametrize("optimizer", ["powersgd", "adam"])
def test_an_epoch_is_the_mean_over_its_steps(tmp_path, fake_mnist, optimizer):
    config = make_config(tmp_path, optimizer, layer_norms=True)
    rows = execute(config).rows()
    model, gamma = Trainer(config, CPU, TRAIN_IMAGES).model, getattr(config.optimizer, "gamma", 1.0)
    stepping, train_set = build_optimizer(config, model.parameters()), build_data(config, CPU)[0]
    for epoch, row in enumerate(rows):
        found = []
        for inputs, labels in train_set.epoch(config.seed, epoch, config.batch_size):
            stepping.zero_grad()
            F.cross_entropy(model(inputs), labels).backward()
            found.append([norms_of(linear.weight.grad, gamma) for linear in model.layers])
            stepping.step()
        for layer in LAYERS:
            norm, amplification = torch.tensor(found, dtype=torch.float64)[:, layer - 1].mean(0).tolist()
            assert row[f"grad_norm2_{layer}"] == pytest.approx(norm, rel=1e-4)
            assert row[f"amplification_{layer}"] == pytest.approx(amplification, rel=1e-4)


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if not name.startswith("powersgd")])
def test_optimizers_without_the_power_amplify_nothing(tmp_path, fake_mnist, optimizer):
    config = make_config(tmp_path, optimizer, layer_norms=True, **{"optimizer.lr": 1e-4})  # no layer dies
    for row in execute(config).rows():
        assert [row[f"amplification_{layer}"] for layer in LAYERS] == [1, 1, 1]
        assert all(row[f"grad_norm2_{layer}"] > 0 for layer in LAYERS)


def test_the_sign_has_the_norm_of_its_size(tmp_path, fake_mnist):
    config = make_config(tmp_path, layer_norms=True, **{"optimizer.gamma": 0.0})
    trainer = Trainer(config, CPU, TRAIN_IMAGES)
    trainer.train_step(*batch(config))
    grads = [linear.weight.grad for linear in trainer.model.layers]
    row = row_of(trainer)
    for layer, grad in zip(LAYERS, grads, strict=True):
        expected = math.sqrt(grad.count_nonzero()) / grad.double().norm().item()
        assert row[f"amplification_{layer}"] == pytest.approx(expected, rel=1e-6)


def test_steps_without_a_gradient_do_not_count(tmp_path, fake_mnist):
    """Of black images the first layer's weights learn nothing."""
    config = make_config(tmp_path, layer_norms=True)
    inputs, labels = batch(config)
    alone = Trainer(config, CPU, TRAIN_IMAGES)
    alone.train_step(torch.zeros_like(inputs), labels)
    black = row_of(alone)
    assert (black["amplification_1"], black["grad_norm2_1"]) == (None, 0)
    assert black["amplification_2"] > 1 and black["amplification_3"] > 1
    mixed = Trainer(config, CPU, TRAIN_IMAGES)
    mixed.train_step(torch.zeros_like(inputs), labels)
    mixed.train_step(inputs, labels)
    norm, amplification = norms_of(mixed.model.layers[0].weight.grad, config.optimizer.gamma)
    row = row_of(mixed)
    assert row["amplification_1"] == pytest.approx(amplification, rel=1e-5)
    assert row["grad_norm2_1"] == pytest.approx(norm / 2, rel=1e-5)


def test_a_vanishing_gradient_is_not_zero(tmp_path, fake_mnist):
    """Its squares are, in float32."""
    config = make_config(tmp_path, layer_norms=True)
    trainer = Trainer(config, CPU, TRAIN_IMAGES)
    inputs, labels = batch(config)
    trainer.train_step(inputs * 1e-30, labels)
    grad = trainer.model.layers[0].weight.grad
    assert grad.any() and not grad.square().any()
    norm, amplification = norms_of(grad, config.optimizer.gamma)
    row = row_of(trainer)
    assert row["grad_norm2_1"] == pytest.approx(norm, rel=1e-5)
    assert row["amplification_1"] == pytest.approx(amplification, rel=1e-4)


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")  # as the skipped step is the first
def test_a_step_that_fp16_s_scaler_skips_does_not_count(tmp_path, fake_mnist):
    config = make_config(tmp_path, layer_norms=True, precision="fp16")
    trainer = Trainer(config, CPU, TRAIN_IMAGES)
    inputs, labels = batch(config)
    trainer.train_step(inputs * math.inf, labels)
    assert trainer.sums[6:].tolist() == [0] * 12
    trainer.train_step(inputs, labels)
    norm, amplification = norms_of(trainer.model.layers[1].weight.grad, config.optimizer.gamma)
    row = row_of(trainer)
    assert row["grad_norm2_2"] == pytest.approx(norm, rel=1e-5)
    assert row["amplification_2"] == pytest.approx(amplification, rel=1e-4)


@pytest.mark.parametrize("optimizer", ["powersgdm", "adam"])
def test_a_step_never_waits_for_the_device(tmp_path, optimizer):
    meta = torch.device("meta")
    trainer = Trainer(make_config(tmp_path, optimizer, layer_norms=True), meta, TRAIN_IMAGES)
    for _ in range(3):
        trainer.train_step(torch.empty(32, 1, 28, 28, device=meta), torch.zeros(32, dtype=torch.int64, device=meta))
    assert trainer.step == 3 and trainer.sums.is_meta and trainer.sums.shape == (6 + 4 * 3,)


def test_measuring_changes_nothing(tmp_path, fake_mnist):
    plain = outcome(execute(make_config(tmp_path)))
    measured = outcome(execute(make_config(tmp_path, layer_norms=True)))
    for part in ("model", "optimizer", "schedule", "generator"):
        assert_same(plain["state"][part], measured["state"][part], part)
    for one, two in zip(plain["rows"], measured["rows"], strict=True):
        assert_same(one, {key: two[key] for key in one})
        added = [f"{name}_{layer}" for name in ("amplification", "grad_norm2") for layer in LAYERS]
        assert [key for key in two if key not in one] == added
    assert plain["state"]["sums"].shape == (6,)


def test_a_checkpoint_without_them_loads(tmp_path, fake_mnist):
    config = make_config(tmp_path, layer_norms=True)
    before, after = Trainer(make_config(tmp_path), CPU, TRAIN_IMAGES), Trainer(config, CPU, TRAIN_IMAGES)
    before.train_step(*batch(config))
    after.restore(before.state_dict())
    assert after.sums[:6].equal(before.sums) and not after.sums[6:].any() and after.step == 1
    after.train_step(*batch(config))
    assert row_of(after)["amplification_1"] > 1


def test_other_networks_are_refused():
    with pytest.raises(ConfigError) as caught:
        cli.typed(composed("optimizer=sgd", "dataset=synthetic", "model=resnet50", "layer_norms=true"))
    assert str(caught.value) == "layer_norms=true works only with model=mlp, not resnet50"
    assert cli.typed(composed("optimizer=sgd", "layer_norms=true")).layer_norms
