"""Images held out of the training set: which they are, that they are never trained on, what is reported of them."""

import signal
from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from data.augment import centre_view
from data.errors import DataError
from data.imagenet import decode
from data.tensors import balanced_subset, generator, hold_out
from runs import cli
from runs.identity import identity
from runs.interrupt import Interrupted
from runs.run import Run
from runs.schema import ConfigError
from training import checkpoint
from training.build import build_data, build_splits
from training.execute import execute
from training.trainer import Trainer

from .helpers import TEST_IMAGES, TRAIN_IMAGES, assert_same, composed, make_config, outcome, run_of
from .test_distributed import launched
from .test_resume import SMALL, STEPS, at_step, interrupted, stop

CPU = torch.device("cpu")
HELD = 53  # does not divide by the classes
BOTH = {"dataset.validation": 10, "layer_norms": True}


def pictures(images: torch.Tensor) -> set[bytes]:
    """Every made-up image is another one."""
    found = {image.numpy().tobytes() for image in images}
    assert len(found) == len(images)
    return found


# Which they are


def test_the_held_out_images_are_balanced_and_no_longer_in_the_training_set(tmp_path, fake_mnist):
    whole, _ = build_data(make_config(tmp_path), CPU)
    train, validation, test = build_splits(make_config(tmp_path, **{"dataset.validation": HELD}), CPU)
    assert (len(train), len(validation), len(test)) == (TRAIN_IMAGES - HELD, HELD, TEST_IMAGES)
    assert validation.labels.bincount().tolist() == [6] * 3 + [5] * 7
    assert not pictures(train.images) & pictures(validation.images)
    assert pictures(train.images) | pictures(validation.images) == pictures(whole.images)
    labels = {image.numpy().tobytes(): int(label) for image, label in zip(whole.images, whole.labels, strict=True)}
    for part in (train, validation):
        assert [labels[image.numpy().tobytes()] for image in part.images] == part.labels.tolist()


def test_they_belong_to_the_data_set_and_not_to_the_seed(tmp_path, fake_mnist):
    def held(seed):
        torch.manual_seed(seed)
        config = make_config(tmp_path, "adam" if seed else "sgd", seed=seed, **{"dataset.validation": HELD})
        return build_splits(config, CPU)[1]

    for seed in (1, 2):
        assert held(seed).images.equal(held(0).images) and held(seed).labels.equal(held(0).labels)


def test_they_are_taken_from_the_subset_by_another_choice_than_the_subset_s(tmp_path, fake_mnist):
    subset, _ = build_data(make_config(tmp_path, **{"dataset.subset": 100}), CPU)
    train, validation, _ = build_splits(make_config(tmp_path, **{"dataset.subset": 100, "dataset.validation": 20}), CPU)
    assert pictures(train.images) | pictures(validation.images) == pictures(subset.images)
    assert train.labels.bincount().tolist() == [8] * 10 and validation.labels.bincount().tolist() == [2] * 10
    labels = torch.arange(TRAIN_IMAGES) % 10
    others, held = hold_out(labels, 100, 10)
    assert set(held.tolist()) != set(balanced_subset(labels, 100, 10).tolist())
    assert sorted(others.tolist() + held.tolist()) == list(range(TRAIN_IMAGES))
    assert held.tolist() == sorted(held.tolist()) and others.tolist() == sorted(others.tolist())


def test_nothing_is_held_out_by_default(tmp_path, fake_mnist):
    train, validation, _ = build_splits(make_config(tmp_path), CPU)
    assert validation is None and len(train) == TRAIN_IMAGES


@pytest.mark.parametrize("held", [TRAIN_IMAGES, TRAIN_IMAGES + 1, 10**9])
def test_a_training_set_that_would_be_used_up_is_refused(tmp_path, fake_mnist, held):
    with pytest.raises(DataError, match=rf"^dataset\.validation={held}: .*{TRAIN_IMAGES}") as caught:
        build_splits(make_config(tmp_path, **{"dataset.validation": held}), CPU)
    assert "\n" not in str(caught.value)


def test_more_than_a_class_has_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("data.mnist.load", lambda *_: (torch.zeros(20, 1, 28, 28), torch.tensor([0] * 18 + [1] * 2)))
    changes = {"dataset.num_classes": 2, "dataset.validation": 10}
    with pytest.raises(DataError, match=r"^dataset\.validation=10: class 1 has 2 images"):
        build_splits(make_config(tmp_path, **changes), CPU)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset.validation=-1"], "dataset.validation=-1: must be at least 0"),
        (["dataset.subset=50", "dataset.validation=50"], "dataset.validation=50: must be below dataset.subset=50"),
    ],
)
def test_what_cannot_work_is_refused_before_any_data_is_read(overrides, message):
    with pytest.raises(ConfigError) as caught:
        cli.typed(composed("optimizer=sgd", *overrides))
    assert str(caught.value) == message


def test_runs_from_before_keep_their_identity(tmp_path):
    config = asdict(make_config(tmp_path))
    before = {key: value for key, value in config.items() if key != "layer_norms"}
    before["dataset"] = {key: value for key, value in config["dataset"].items() if key != "validation"}
    assert identity(config) == identity(before)
    for key, value in BOTH.items():
        assert identity(asdict(make_config(tmp_path, **{key: value}))) != identity(before)


# Training and evaluating


def test_they_are_never_trained_on_and_the_steps_follow_from_the_rest(tmp_path, fake_mnist, monkeypatch):
    step, seen = Trainer.train_step, []

    def watching(self, inputs, labels):
        seen.append(inputs.clone())
        step(self, inputs, labels)

    monkeypatch.setattr(Trainer, "train_step", watching)
    config = make_config(tmp_path, epochs=1, **{"dataset.validation": HELD})
    execute(config)
    train, validation, _ = build_splits(config, CPU)
    assert [len(inputs) for inputs in seen] == [32] * 7 + [TRAIN_IMAGES - HELD - 7 * 32]
    assert pictures(torch.cat(seen)) == pictures(train.normalised(train.images))
    assert not pictures(torch.cat(seen)) & pictures(validation.normalised(validation.images))
    # The order is drawn as for any training set of that size.
    order = torch.randperm(TRAIN_IMAGES - HELD, generator=generator(config.seed, "order", 0))
    assert torch.cat(seen).equal(train.normalised(train.images[order]))


def test_the_schedule_counts_the_steps_of_the_rest(tmp_path, fake_mnist, monkeypatch):
    images = []
    build = Trainer.__init__

    def watching(self, config, device, size, world):
        images.append(size)
        build(self, config, device, size, world)

    monkeypatch.setattr(Trainer, "__init__", watching)
    execute(make_config(tmp_path, epochs=1, **{"dataset.validation": HELD}))
    assert images == [TRAIN_IMAGES - HELD]


def test_the_row_holds_what_a_hand_evaluation_finds(tmp_path, fake_mnist):
    seen = []
    config = make_config(tmp_path, evaluate_train=True, **{"dataset.validation": HELD})
    run = execute(config, lambda row: seen.append(dict(row)))
    rows = run.rows()
    assert seen == rows  # W&B and the progress bar are told the same
    model = Trainer(config, CPU, TRAIN_IMAGES - HELD).model
    model.load_state_dict(checkpoint.load(run)["model"])
    train, validation, test = build_splits(config, CPU)
    for name, part in (("validation", validation), ("test", test), ("train_eval", train)):
        with torch.no_grad():
            logits = model(part.normalised(part.images))
        assert rows[-1][f"{name}_loss"] == pytest.approx(F.cross_entropy(logits, part.labels).item(), rel=1e-5)
        assert rows[-1][f"{name}_acc"] == (logits.argmax(1) == part.labels).sum().item() / len(part)
    assert rows[-1]["validation_acc"] > 0.2
    columns = list(rows[0])
    after = columns.index("test_acc") + 1
    assert columns[after : after + 4] == ["validation_loss", "validation_acc", "train_eval_loss", "train_eval_acc"]


def test_without_them_the_columns_are_as_before(tmp_path, fake_mnist):
    columns = list(execute(make_config(tmp_path, epochs=1)).rows()[0])
    assert columns == ["epoch", "lr", "train_loss", "train_acc", "grad_norm1", "powered_norm1", "seconds",
                       "images_per_second", "test_loss", "test_acc", "dead_units_1", "dead_units_2"]  # fmt: skip


def test_they_are_not_augmented(tmp_path, fake_mnist):
    config = make_config(tmp_path, **{"dataset.validation": HELD, "dataset.augment": "crop_flip"})
    train, validation, _ = build_splits(config, CPU)
    assert train.augment is not None and validation.augment is None
    ((inputs, labels),) = validation.batches(HELD)
    assert inputs.equal(validation.normalised(validation.images)) and labels.equal(validation.labels)


def test_evaluating_them_changes_nothing(tmp_path, fake_mnist, monkeypatch):
    config = make_config(tmp_path, **{"dataset.validation": HELD})
    with_them = outcome(execute(config))
    train, _, test = build_splits(config, CPU)
    monkeypatch.setattr("training.loop.build_splits", lambda *_: (train, None, test))
    plain = outcome(execute(make_config(tmp_path / "x", data_dir=str(fake_mnist), **{"dataset.validation": HELD})))
    for part in ("model", "optimizer", "generator", "sums"):
        assert_same(with_them["state"][part], plain["state"][part], part)


# Interruptions and several processes, also with the norms of the layers


@pytest.mark.parametrize("optimizer", ["powersgdm", "sgd"])
def test_a_run_stopped_at_any_step_goes_on_as_if_it_had_not_been(tmp_path, fake_mnist, optimizer):
    small = SMALL | BOTH | {"batch_size": 30}  # 90 images in 3 steps
    expected = outcome(execute(make_config(tmp_path / "whole", optimizer, data_dir=str(fake_mnist), **small)))
    assert {"validation_acc", "amplification_3", "grad_norm2_3"} <= set(expected["rows"][0])
    for step in range(1, 2 * (STEPS - 1)):
        config = make_config(tmp_path / str(step), optimizer, data_dir=str(fake_mnist), **small)
        run = interrupted(config, lambda patches, step=step: at_step(patches, [step], stop()))
        assert_same(outcome(run), expected)


def test_a_stop_at_the_end_of_an_epoch(tmp_path, fake_mnist):
    expected = outcome(execute(make_config(tmp_path / "whole", data_dir=str(fake_mnist), **SMALL | BOTH)))
    config = make_config(tmp_path, **SMALL | BOTH)
    with pytest.raises(Interrupted):
        execute(config, lambda row: signal.raise_signal(signal.SIGTERM))
    assert not run_of(config).ended()
    assert_same(outcome(execute(config)), expected)


@pytest.mark.slow
def test_two_processes_report_what_one_does(tmp_path):
    def rows(processes):
        done = launched(
            processes, "train.py", "dataset=synthetic", "dataset.validation=101", "layer_norms=true", "model=mlp",
            "model.depth=3", "model.width=16", "optimizer=powersgdm", "epochs=2", "device=cpu", "progress=false",
            "wandb.mode=disabled", f"results={tmp_path / str(processes)}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (folder,) = (tmp_path / str(processes) / "runs").iterdir()
        return Run(folder).rows()

    one, two = rows(1), rows(2)
    keys = [f"{name}_{layer}" for name in ("amplification", "grad_norm2") for layer in (1, 2, 3)]
    for a, b in zip(one, two, strict=True):
        assert list(a) == list(b)
        for key in ("validation_loss", "validation_acc", "train_loss", "test_acc", *keys):
            assert a[key] == pytest.approx(b[key], rel=1e-3, abs=1e-6), key


# Pictures in files


def test_pictures_in_files_are_held_out_too(tmp_path):
    draw = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 2)):
        for name in ("a", "b", "c"):
            folder = tmp_path / "tree" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).resize((40, 40)).save(folder / f"{name}{number}.JPEG")

    def splits(held, **changes):
        shape = {"dataset.num_classes": 3, "dataset.image_shape": [3, 32, 32], "dataset.workers": 0}
        config = make_config(tmp_path, data_dir=str(tmp_path), **{"dataset.validation": held} | shape | changes)
        config.dataset.name, config.dataset.folder = "imagenet", "tree"
        config.dataset.augment = "resized_crop_flip"
        config.dataset.mean, config.dataset.std = [0.5] * 3, [0.25] * 3
        return build_splits(config, CPU)

    whole, nothing, _ = splits(0)
    train, validation, test = splits(6)
    assert nothing is None and (len(whole), len(train), len(validation), len(test)) == (15, 9, 6, 6)
    assert validation.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert train.labels.bincount().tolist() == [3, 3, 3]
    assert sorted([*train.paths, *validation.paths]) == list(whole.paths)
    assert train.broken is not validation.broken
    ((images, labels),) = validation.batches(6)
    for image, path, label in zip(images, validation.paths, labels.tolist(), strict=True):
        assert path.startswith("abc"[label].encode())
        view = centre_view(decode((validation.folder / path.decode()).read_bytes()), 32)
        torch.testing.assert_close(image, (view.float() / 255 - 0.5) / 0.25)
    with pytest.raises(DataError, match=r"^dataset\.validation=15: "):
        splits(15)


def test_a_subset_of_the_test_set_is_balanced_and_fixed(tmp_path, fake_mnist):
    _, whole = build_data(make_config(tmp_path), CPU)
    _, part = build_data(make_config(tmp_path, **{"dataset.test_subset": 40}), CPU)
    assert part.labels.bincount().tolist() == [4] * 10
    assert pictures(part.images) < pictures(whole.images)
    with pytest.raises(DataError, match=r"dataset\.test_subset=4000"):
        build_data(make_config(tmp_path, **{"dataset.test_subset": 4000}), CPU)
