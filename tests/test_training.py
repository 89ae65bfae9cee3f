"""The training loop: what it measures, when it ends, and that nothing but the config decides the result."""

import functools
import math
import time
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F

from data import mnist
from data.tensors import TensorDataset
from models.mlp import MLP
from optimizers import powerball
from training.build import build_data, build_optimizer
from training.execute import execute
from training.trainer import Trainer

from .helpers import OPTIMIZERS, TEST_IMAGES, TRAIN_IMAGES, assert_same, make_config, outcome, run_of, write_fake_mnist

CPU = torch.device("cpu")

# The step


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_never_waits_for_the_device(tmp_path, optimizer):
    """On the meta device there are no values: whatever asks for one (.item(), .tolist(), `if tensor`) raises."""
    meta = torch.device("meta")
    config = make_config(tmp_path, optimizer, **{"model.depth": 13, "model.width": 256})
    steps = Trainer(config, meta, TRAIN_IMAGES)
    inputs, labels = torch.empty(32, 1, 28, 28, device=meta), torch.zeros(32, dtype=torch.int64, device=meta)
    for _ in range(3):
        steps.train_step(inputs, labels)
    assert steps.step == 3 and steps.sums.is_meta
    with pytest.raises((RuntimeError, NotImplementedError)):
        steps.sums.tolist()  # so the above says something


def test_the_metrics_are_those_of_a_plain_loop(tmp_path, fake_mnist):
    """Without any accumulating on the device: every step's numbers are read at once and averaged at the end."""
    config = make_config(tmp_path, "powersgdm", epochs=2, evaluate_train=True)
    rows = execute(config).rows()

    train_set, test_set = build_data(config, CPU)
    model = Trainer(config, CPU, TRAIN_IMAGES).model
    optimizer = build_optimizer(config, model.parameters())
    weight = model.layers[0].weight
    for epoch in range(2):
        losses, corrects, norms, powered, lr = [], 0, [], [], optimizer.param_groups[0]["lr"]
        for inputs, labels in train_set.epoch(config.seed, epoch, config.batch_size):
            logits = model(inputs)
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            losses += [loss.item()] * len(labels)
            corrects += (logits.argmax(1) == labels).sum().item()
            norms.append(weight.grad.abs().double().sum().item())
            powered.append(powerball(weight.grad, config.optimizer.gamma).abs().double().sum().item())
            optimizer.step()
        with torch.no_grad():
            test, train = (model(part.normalised(part.images)) for part in (test_set, train_set))
        expected = {
            "epoch": epoch + 1,
            "lr": lr,
            "train_loss": sum(losses) / TRAIN_IMAGES,
            "train_acc": corrects / TRAIN_IMAGES,
            "grad_norm1": sum(norms) / len(norms),
            "powered_norm1": sum(powered) / len(powered),
            "test_loss": F.cross_entropy(test, test_set.labels).item(),
            "test_acc": (test.argmax(1) == test_set.labels).sum().item() / TEST_IMAGES,
            "train_eval_loss": F.cross_entropy(train, train_set.labels).item(),
            "train_eval_acc": (train.argmax(1) == train_set.labels).sum().item() / TRAIN_IMAGES,
        }
        assert len(norms) == math.ceil(TRAIN_IMAGES / config.batch_size) and TRAIN_IMAGES % config.batch_size
        for key, value in expected.items():
            assert rows[epoch][key] == pytest.approx(value, rel=1e-5), key
    assert rows[1]["test_acc"] > 0.2  # something was learned, so the numbers are not those of a standstill


def test_the_rows_hold_what_the_figures_need(tmp_path, fake_mnist):
    seen = []
    rows = execute(make_config(tmp_path, "sgd"), lambda row: seen.append(dict(row))).rows()
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["powered_norm1"] for row in rows] == [None, None]  # SGD applies no power
    assert {"dead_units_1", "dead_units_2"} <= set(rows[0]) and "dead_units_3" not in rows[0]
    assert "train_eval_acc" not in rows[0]
    for row in rows:
        assert row["seconds"] > 0
        assert row["images_per_second"] == pytest.approx(TRAIN_IMAGES / row["seconds"])
    # The observers (progress bar, W&B) are told what is written.
    assert seen == rows


def test_evaluation_is_off_the_training_clock(tmp_path, fake_mnist, monkeypatch):
    batches = TensorDataset.batches

    def slow(*arguments):
        time.sleep(0.3)
        yield from batches(*arguments)

    monkeypatch.setattr(TensorDataset, "batches", slow)
    row = execute(make_config(tmp_path, epochs=1)).rows()[0]
    assert row["seconds"] < 0.25


# Dead units


def hand_made(*units: tuple[float, float]) -> MLP:
    """One input x, and in the first layer a unit relu(weight x + bias) for each; in the second one dead, two alive."""
    model = MLP(in_features=1, num_classes=2, depth=3, width=len(units))
    with torch.no_grad():
        model.layers[0].weight.copy_(torch.tensor([[weight] for weight, _ in units]))
        model.layers[0].bias.copy_(torch.tensor([bias for _, bias in units]))
        model.layers[1].weight.zero_()
        model.layers[1].bias.copy_(torch.tensor([-1.0, 1.0, 2.0][: len(units)]))
    return model


def pixels(*values: int) -> TensorDataset:
    images = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1)
    return TensorDataset(
        images, torch.zeros(len(values), dtype=torch.int64), num_classes=2, mean=(0.0,), std=(1 / 255,)
    )


@pytest.fixture
def dead_units(tmp_path):
    def count(model: MLP, dataset: TensorDataset) -> list[int]:
        evaluating = Trainer(make_config(tmp_path, "sgd"), CPU, len(dataset))
        evaluating.model = evaluating.evaluated = model
        return list(evaluating.evaluate(dataset).dead_units.values())

    return count


def test_units_that_fire_for_no_image_are_counted_layer_by_layer(dead_units):
    # Fires for every x > 3; never; at x = 0 and x = 1 only by being exactly 0, which passes no gradient.
    model = hand_made((1, -3), (-1, -1), (1, -5))
    assert dead_units(model, pixels(0, 1, 2)) == [3, 1]
    assert dead_units(model, pixels(0, 1, 4)) == [2, 1]
    assert dead_units(model, pixels(0, 1, 5)) == [2, 1]
    assert dead_units(model, pixels(0, 1, 6)) == [1, 1]


def test_one_image_in_the_last_batch_brings_a_unit_to_life(dead_units):
    model = hand_made((1, -100), (1, -250))
    many = [0] * 2500
    assert dead_units(model, pixels(*many)) == [2, 1]
    assert dead_units(model, pixels(*many, 200)) == [1, 1]
    assert dead_units(model, pixels(255, *many)) == [0, 1]


def test_counting_them_leaves_nothing_behind(tmp_path, monkeypatch):
    evaluating, dataset = Trainer(make_config(tmp_path, "sgd"), CPU, 1), pixels(0)
    evaluating.model = evaluating.evaluated = hand_made((1, 0))
    evaluating.evaluate(dataset)
    monkeypatch.setattr(dataset, "batches", lambda size: [(torch.zeros(1, 1, 1, 7), torch.zeros(1))])
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        evaluating.evaluate(dataset)
    assert not any(layer._forward_hooks for layer in evaluating.model.layers)


# Endings


def ended(config):
    run = execute(config)
    status = run.status()
    assert run.ended() and status["epoch"] == len(run.rows())
    return status["state"], status["reason"], status["epoch"], run


def test_a_run_ends_after_all_epochs(tmp_path, fake_mnist):
    assert ended(make_config(tmp_path, epochs=3))[:3] == ("finished", "all epochs", 3)


def test_a_run_ends_in_the_first_epoch_that_reaches_the_stated_accuracy(tmp_path, fake_mnist):
    accuracies = [row["train_acc"] for row in execute(make_config(tmp_path, "adam", epochs=8)).rows()]
    first = next(epoch for epoch, accuracy in enumerate(accuracies, start=1) if accuracy >= 0.5)
    assert 1 < first < 8
    changes = {"stop.success": accuracies[first - 1], "epochs": 8}  # reached exactly
    state, reason, epoch, run = ended(make_config(tmp_path, "adam", **changes))
    assert (state, epoch) == ("finished", first) and reason.startswith("success")
    assert [row["train_acc"] for row in run.rows()] == accuracies[:first]


def test_a_run_whose_first_layer_got_no_gradient_in_a_whole_epoch_ends_if_asked_to(tmp_path, monkeypatch):
    for name, md5 in write_fake_mnist(tmp_path / "mnist", blank=True).items():
        monkeypatch.setitem(mnist.FILES, name, md5)
    state, reason, epoch, run = ended(make_config(tmp_path, epochs=3, **{"stop.dead": True}))
    assert (state, epoch) == ("finished", 1) and reason.startswith("dead")
    assert run.rows()[0]["grad_norm1"] == run.rows()[0]["powered_norm1"] == 0
    assert ended(make_config(tmp_path, epochs=3))[:3] == ("finished", "all epochs", 3)


def test_a_living_run_is_not_ended_as_dead(tmp_path, fake_mnist):
    assert ended(make_config(tmp_path, **{"stop.dead": True}))[:3] == ("finished", "all epochs", 2)


def test_a_run_that_diverges_is_a_result(tmp_path, fake_mnist):
    config = make_config(tmp_path, "sgd", epochs=5, **{"optimizer.lr": 1e30, "stop.dead": True})
    state, reason, epoch, run = ended(config)
    assert (state, epoch) == ("diverged", 1) and reason == "loss not finite in epoch 1"
    assert not math.isfinite(run.rows()[0]["train_loss"])
    log = run.folder / "log.txt"
    assert not log.exists() or "Traceback" not in log.read_text()


def test_divergence_in_the_last_step_of_a_later_epoch_is_seen(tmp_path, fake_mnist, monkeypatch):
    step, steps = Trainer.train_step, math.ceil(TRAIN_IMAGES / 32)

    def poisoned(self, inputs, labels):
        if (self.epoch, self.step) == (1, steps - 1):
            inputs = inputs * math.inf
        step(self, inputs, labels)

    monkeypatch.setattr(Trainer, "train_step", poisoned)
    state, reason, epoch, run = ended(make_config(tmp_path, "sgd", epochs=5))
    assert (state, reason, epoch) == ("diverged", "loss not finite in epoch 2", 2)
    assert math.isfinite(run.rows()[0]["train_loss"])


def test_a_run_that_crashes_is_failed_with_its_traceback_and_tried_again(tmp_path, fake_mnist):
    config = make_config(tmp_path, epochs=2)

    def observe(row):
        if row["epoch"] == 2:
            raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError):
        execute(config, observe)
    run = run_of(config)
    status = run.status()
    assert not run.ended() and (status["state"], status["epoch"]) == ("failed", 1)
    assert status["reason"] == "ZeroDivisionError: on purpose"
    assert "Traceback" in (run.folder / "log.txt").read_text()
    assert ended(config)[:3] == ("finished", "all epochs", 2)


@pytest.mark.parametrize("changes", [{}, {"optimizer.lr": 1e30}], ids=["finished", "diverged"])
def test_asking_for_an_ended_run_costs_nothing(tmp_path, fake_mnist, monkeypatch, changes):
    config = make_config(tmp_path, "sgd", **changes)
    run = execute(config)
    before = {path: path.stat().st_mtime_ns for path in run.folder.iterdir()}
    for owner, name in ((Trainer, "train_step"), (Trainer, "__init__"), (mnist, "load")):
        monkeypatch.setattr(owner, name, lambda *_, **__: pytest.fail("it trains again"))
    assert execute(config, lambda row: pytest.fail("a row of an ended run")).folder == run.folder
    assert {path: path.stat().st_mtime_ns for path in run.folder.iterdir()} == before


# What decides the result


def test_evaluation_changes_nothing(tmp_path, fake_mnist, monkeypatch):
    plain = outcome(execute(make_config(tmp_path)))
    more = outcome(execute(make_config(tmp_path, evaluate_train=True)))
    batches = TensorDataset.batches
    monkeypatch.setattr(TensorDataset, "batches", lambda self, batch_size: batches(self, 7))
    other = outcome(execute(make_config(tmp_path / "x", data_dir=str(tmp_path / "mnist"))))
    for part in ("model", "optimizer", "generator", "sums"):
        assert_same(plain["state"][part], more["state"][part], part)
        assert_same(plain["state"][part], other["state"][part], part)
    for one, two in zip(plain["rows"], more["rows"], strict=True):
        assert_same(one, {key: two[key] for key in one})


def test_a_run_repeats_itself_bit_for_bit(tmp_path, fake_mnist):
    one = outcome(execute(make_config(tmp_path)))
    torch.manual_seed(12345)
    torch.rand(7)
    other = outcome(execute(make_config(tmp_path / "again", data_dir=str(tmp_path / "mnist"))))
    assert_same(one, other)


def initial(tmp_path, optimizer: str, seed: int) -> dict:
    return Trainer(make_config(tmp_path, optimizer, seed=seed), CPU, TRAIN_IMAGES).model.state_dict()


def test_all_optimizers_of_a_seed_start_from_the_same_weights(tmp_path):
    first = initial(tmp_path, "sgd", 0)
    for optimizer in OPTIMIZERS:
        torch.manual_seed(len(optimizer))
        assert_same(initial(tmp_path, optimizer, 0), first)


def test_every_seed_has_its_own_weights(tmp_path):
    weights = [initial(tmp_path, "sgd", seed)["layers.1.weight"] for seed in range(4)]
    assert len({tuple(weight.flatten().tolist()) for weight in weights}) == 4


def test_all_optimizers_of_a_seed_see_the_same_batches(tmp_path, fake_mnist, monkeypatch):
    step = Trainer.train_step
    seen = []

    def watching(self, inputs, labels):
        seen.append((inputs.clone(), labels.clone()))
        step(self, inputs, labels)

    monkeypatch.setattr(Trainer, "train_step", watching)

    @functools.cache
    def batches(optimizer, seed):
        seen.clear()
        execute(make_config(tmp_path, optimizer, seed=seed, epochs=2))
        return list(seen)

    assert_same(batches("sgd", 0), batches("powersgdm", 0))
    assert_same(batches("sgd", 0), batches("adam", 0))
    assert not torch.equal(batches("sgd", 0)[0][1], batches("sgd", 1)[0][1])
    assert not torch.equal(batches("sgd", 0)[0][1], batches("sgd", 0)[10][1])  # the second epoch's first


def test_the_subset_of_the_config_is_trained_on(tmp_path, fake_mnist):
    config = make_config(tmp_path, **{"dataset.subset": 50})
    train_set, test_set = build_data(config, CPU)
    assert len(train_set) == 50 and len(test_set) == TEST_IMAGES
    assert train_set.labels.bincount().tolist() == [5] * 10
    assert asdict(config) != asdict(make_config(tmp_path)) and run_of(config).name != run_of(make_config(tmp_path)).name
