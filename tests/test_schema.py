"""What a setting may be, by hand: the last value that is allowed, the first that is not, and what is said then."""

import copy
import dataclasses
import functools
import math
import re
from typing import Any

import pytest

from runs import cli, schema
from runs.identity import identity, nested, run_name, science, setting_id, settled
from runs.schema import RETIRED, ConfigError, batch_statistics, build, check, walk

from .helpers import composed

FLOAT32 = "at least 0, and a number that float32 can hold"
SEED = "at least 0 and below 2^63"
WORD = "letters, digits and . _ + -, as it becomes part of a folder's name"


@functools.cache
def _composed(*overrides: str) -> dict:
    return cli.plain(composed(*overrides))


def plain(*overrides: str, **changes: Any) -> dict:
    """A config of PowerSGDM on an MLP, changed at these dotted paths."""
    config = copy.deepcopy(_composed("optimizer=powersgdm", *overrides))
    for path, value in changes.items():
        *sections, key = path.split(".")
        part = functools.reduce(dict.__getitem__, sections, config)
        part[key] = value
    return config


def refusal(config: dict) -> str:
    with pytest.raises(ConfigError) as error:
        check(config)
    return str(error.value)


LIMITS = [
    ("epochs", 1, 0, "at least 1"),
    ("batch_size", 1, 0, "at least 1"),
    ("seed", 0, -1, SEED),
    ("seed", 2**63 - 1, 2**63, SEED),
    ("seeds", [0, 1], [0, -1], f"a list, each {SEED}"),
    ("precision", "fp16", "fp8", "one of fp32, tf32, bf16, fp16"),
    ("compile", "reduce-overhead", "max", "one of none, default, reduce-overhead"),
    ("threads", 1, 0, "at least 1"),
    ("accumulate", 1, 0, "at least 1"),
    ("budget", 0, -1, "at least 0"),
    ("checkpoint_seconds", 0, -1, "at least 0"),
    ("launcher.gpus_per_run", 1, 0, "at least 1"),
    ("wandb.mode", "offline", "on", "one of auto, online, offline, disabled"),
    ("dataset.name", "a-1._+", "a/b", WORD),
    ("dataset.name", "a", ".a", WORD),
    ("dataset.name", "a", "", WORD),
    ("dataset.name", "a", "ä", WORD),
    ("dataset.num_classes", 1, 0, "at least 1"),
    ("dataset.image_shape", [1, 1, 1], [1, 1, 0], "channels, height and width, each at least 1"),
    ("dataset.image_shape", [1, 1, 1], [1, 1], "channels, height and width, each at least 1"),
    ("dataset.std", [1e-9], [0.0], "a list, each above 0"),
    ("dataset.augment", "resized_crop_flip", "flip", "one of none, crop_flip, resized_crop_flip"),
    ("dataset.on_error", "skip", "ignore", "one of fail, skip"),
    ("dataset.subset", 1, 0, "at least 1"),
    ("dataset.test_subset", 1, 0, "at least 1"),
    ("dataset.validation", 0, -1, "at least 0"),
    ("dataset.workers", 0, -1, "at least 0"),
    ("dataset.sizes", [128, 1], [1, 0], "two numbers, each at least 1"),
    ("dataset.sizes", [], [1], "two numbers, each at least 1"),
    ("model.depth", 2, 1, "at least 2"),
    ("model.width", 1, 0, "at least 1"),
    ("model.gain", 0.5, 0, "above 0"),
    ("model.init", "orthogonal", "kaiming", "one of torch, he, he_fan_out, xavier, lecun, orthogonal"),
    ("optimizer.lr", 0.0, -0.1, FLOAT32),
    ("optimizer.lr", 1e-45, 1e-46, FLOAT32),
    ("optimizer.lr", 3e38, 4e38, FLOAT32),
    ("optimizer.gamma", 0, -0.1, "in [0, 1]"),
    ("optimizer.gamma", 1, 1.1, "in [0, 1]"),
    ("optimizer.momentum", 0, -0.1, "in [0, 1)"),
    ("optimizer.momentum", 0.999, 1, "in [0, 1)"),
    ("optimizer.weight_decay", 0, -1e-9, FLOAT32),
    ("source.weight_decay", {"mnist": 0}, {"mnist": 0.1, "cifar10": -1}, "at least 0"),
    ("stop.success", 1, 1.1, "in (0, 1]"),
    ("stop.success", 0.001, 0, "in (0, 1]"),
    ("protocol.select_on", "validation", "train", "one of test, validation"),
    ("protocol.similar", 0, -0.001, "at least 0"),
    ("protocol.reach", 1, 1.01, "in (0, 1]"),
    ("protocol.reach", 0.01, 0, "in (0, 1]"),
    ("protocol.validation", 1, 0, "at least 1"),
    ("protocol.finalists", 0, -1, "at least 0"),
    ("protocol.seeds", [0], [-1], f"a list, each {SEED}"),
]
OTHERS = [
    ("schedule=step", "schedule.milestones", [1, 2], [0, 2], "rising epochs, the first at least 1"),
    ("schedule=step", "schedule.milestones", [1, 2], [2, 2], "rising epochs, the first at least 1"),
    ("schedule=step", "schedule.factor", 1, 1.1, "in (0, 1]"),
    ("schedule=warm_restarts", "schedule.first", 1, 0, "at least 1"),
    ("schedule=warm_restarts", "schedule.longer", 1, 0, "at least 1"),
    ("model=resnet50", "model.blocks", [1], [1, 0], "a list, each at least 1"),
    ("model=resnet50", "model.width", 1, 0, "at least 1"),
    ("model=densenet121", "model.blocks", [1], [0], "a list, each at least 1"),
    ("model=densenet121", "model.growth", 1, 0, "at least 1"),
    ("model=resnext29", "model.depth", 2, 1, "at least 2"),
    ("model=resnext29", "model.cardinality", 1, 0, "at least 1"),
    ("model=resnext29", "model.width", 1, 0, "at least 1"),
    ("model=resnext29", "model.stem", 1, 0, "at least 1"),
    ("model=wrn26", "model.depth", 2, 1, "at least 2"),
    ("model=wrn26", "model.widen", 1, 0, "at least 1"),
    ("optimizer=sgdm", "optimizer.dampening", 0, -0.1, FLOAT32),
    ("optimizer=sgdm", "optimizer.momentum", 0.999, 1, "in [0, 1)"),
    ("optimizer=adagrad", "optimizer.initial_accumulator_value", 0, -0.1, FLOAT32),
    *((f"optimizer={name}", "optimizer.weight_decay", 0, -0.1, FLOAT32)
      for name in ("sgd", "adagrad", "rmsprop", "adam", "adamw")),
]  # fmt: skip


@pytest.mark.parametrize(("option", "path", "last", "first", "words"), [*(("seed=0", *one) for one in LIMITS), *OTHERS])
def test_the_limits_of_a_setting(option, path, last, first, words):
    check(plain(option, **{path: last}))
    assert refusal(plain(option, **{path: first})) == f"{path}={first}: must be {words}"


def test_rules_and_fields_are_made_as_they_are_asked_for():
    """By themselves, too: those of the schema were made when it was imported."""
    least, choice = schema.at_least(2), schema.one_of("a", "b")
    assert [least.holds(value) for value in (1, 2, 3)] == [False, True, True] and least.words == "at least 2"
    assert [choice.holds(value) for value in ("a", "c")] == [True, False] and choice.words == "one of a, b"
    several = schema.each(least)
    assert several.holds([2, 3]) and not several.holds([2, 1]) and several.words == "a list, each at least 2"
    one, other = schema.setting(least, before=7, default=3), schema.how(None, least, before=8)
    assert dict(one.metadata) == {"rule": least, "science": True, "before": 7} and one.default == 3
    assert dict(other.metadata) == {"rule": least, "science": False, "before": 8} and other.default is None
    made = schema.setting(default_factory=list)
    assert made.default_factory is list and made.default is made.metadata["before"] is dataclasses.MISSING


@pytest.mark.parametrize(
    ("path", "value", "kind"),
    [
        ("epochs", 1.5, "int"),
        ("epochs", True, "int"),
        ("epochs", None, "int"),
        ("optimizer.lr", "0.1", "float"),
        ("optimizer.lr", False, "float"),
        ("progress", 1, "bool"),
        ("dataset.subset", "9", "int | None"),
        ("dataset.mean", 0.1, "list[float]"),
        ("dataset.mean", [0.1, "x"], "list[float]"),
        ("dataset.name", 7, "str"),
        ("source.weight_decay", [1], "dict[str, float]"),
        ("source.weight_decay", {"mnist": "x"}, "dict[str, float]"),
    ],
)
def test_the_type_of_a_setting(path, value, kind):
    assert refusal(plain(**{path: value})) == f"{path}={value}: must be {kind}"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused_alone_and_in_a_list(value):
    assert refusal(plain(**{"budget": value})) == f"budget={value}: only finite numbers can name a run"
    assert refusal(plain(**{"dataset.mean": [value]})) == f"dataset.mean={value}: only finite numbers can name a run"


def test_a_retired_setting_hides_no_unknown_one_after_it():
    with pytest.raises(ConfigError, match="unknown setting epoch: did you mean epochs"):
        list(walk({next(iter(RETIRED)): 1, "epoch": 3}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 0}, "epochs=0: must be at least 1"),
        ({"optimizer.lr": "fast"}, "optimizer.lr=fast: must be float"),
        ({"accumulate": 999}, "accumulate=999: must be at most batch_size=128"),
    ],
)
def test_beside_a_checked_config_what_differs_is_checked_and_what_goes_together(change, says):
    before = plain()
    check(before)
    after = copy.copy(before)
    for path, value in change.items():
        section, _, key = path.rpartition(".")
        after |= {section: before[section] | {key: value}} if section else {key: value}
    with pytest.raises(ConfigError, match=f"^{re.escape(says)}$"):
        check(after, before)


def test_what_goes_together():
    check(plain(**{"dataset.subset": 10, "dataset.validation": 9}))
    assert refusal(plain(**{"dataset.subset": 10, "dataset.validation": 10})) == (
        "dataset.validation=10: must be below dataset.subset=10"
    )
    check(plain(accumulate=4, batch_size=4))
    assert refusal(plain(accumulate=5, batch_size=4)) == "accumulate=5: must be at most batch_size=4"
    for key in ("mean", "std"):
        says = f"dataset.{key}=[0.5, 0.5]: must have 1 numbers, one a channel"
        assert refusal(plain(**{f"dataset.{key}": [0.5, 0.5]})) == says
    assert refusal(plain(batch_size=60001)) == "batch_size=60001: mnist has 60000 images"
    check(plain(layer_norms=True))
    assert (
        refusal(plain("model=resnet50", layer_norms=True)) == "layer_norms=true works only with model=mlp, not resnet50"
    )
    assert refusal(plain(unavailable_reason="not at this tier")) == "not at this tier"


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("optimizer.gama", 1, "unknown setting optimizer.gama: did you mean optimizer.gamma?"),
        ("stop.x", 1, "unknown setting stop.x: there are dead, success"),
        ("epoch", 1, "unknown setting epoch: did you mean epochs?"),
        ("zzz", 1, "unknown setting zzz: 'python train.py --cfg job' lists all"),
        ("model", "mlp", "model=mlp: choose one of the options in configs/model/"),
        ("model", None, "model=None: choose one of the options in configs/model/"),
        ("schedule.name", "cosine", "schedule.name=cosine: choose one of constant, step, warm_restarts"),
        ("schedule.name", "step", "schedule.milestones is missing: schedule.name=step needs it"),
        ("optimizer.name", "nadam", "optimizer.name=nadam: choose one of sgd, sgdm, adagrad, rmsprop, adam, powersgd, "
                                    "powersgdm, or give a class_path"),
        ("model.name", "vgg", "model.name=vgg: choose one of mlp, resnet50, resnet50_imagenet, densenet121, resnext29, "
                              "wrn26, or give a class_path"),
    ],
)  # fmt: skip
def test_what_no_schema_has(path, value, says):
    assert refusal(plain(**{path: value})) == says


def test_a_section_may_be_left_out_where_it_has_a_default_and_a_retired_key_may_stay():
    check(plain(source=None, refused="an old key"))
    config = plain()
    del config["seed"]
    assert refusal(config) == "seed is missing: name=None needs it"
    del (config := plain())["model"]["width"]
    assert refusal(config) == "model.width is missing: model.name=mlp needs it"


def test_a_section_that_is_operational_has_no_scientific_setting():
    counted = {path for path, _, _, science in walk(plain()) if science}
    assert {"dataset.name", "stop.dead", "schedule.name"} < counted
    assert not any(path.startswith(("source.", "protocol.", "wandb.")) for path in counted)


def test_the_dataclasses_of_a_config():
    changes = {"optimizer.lr": 1, "dataset.mean": [0], "protocol.seeds": [3], "dataset.subset": 7, "stop.success": 1}
    built = build(plain(**changes))
    assert type(built) is schema.Config and type(built.optimizer) is schema.PowerSGD
    assert (type(built.model), type(built.schedule)) == (schema.MLP, schema.Constant)
    found = built.optimizer.lr, built.dataset.mean[0], built.stop.success, built.protocol.seeds[0], built.dataset.subset
    assert [(type(value), value) for value in found] == [(float, 1), (float, 0), (float, 1), (int, 3), (int, 7)]
    assert built.source.weight_decay == plain()["source"]["weight_decay"] and built.dataset.test_subset is None
    assert type(build(plain("optimizer=adamw")).optimizer) is schema.OtherOptimizer
    del (config := plain(threads=3))["source"]
    assert (build(config).source, build(config).threads) == (None, 3)
    with pytest.raises(ConfigError) as error:
        build(plain(stop=3))
    assert str(error.value) == "stop=3: choose one of the options in configs/stop/"


@pytest.mark.parametrize(
    ("model", "accumulate", "processes", "sync", "images"),
    [("resnet50", 1, 1, False, None), ("resnet50", 4, 1, False, 32), ("resnet50", 1, 2, False, 64),
     ("resnet50", 2, 4, False, 16), ("resnet50", 1, 4, True, None), ("resnet50", 3, 4, True, 42),
     ("mlp", 4, 2, False, None)],
)  # fmt: skip
def test_the_images_that_batchnorm_sees(model, accumulate, processes, sync, images):
    config = plain(f"model={model}", accumulate=accumulate, sync_batchnorm=sync, batch_size=128)
    assert batch_statistics(config, processes) == images
    assert settled(config, processes)["batch_statistics"] == images
    in_a_sweep = config | {"launcher": config["launcher"] | {"gpus_per_run": processes}}
    assert identity(settled(in_a_sweep)) == identity(settled(config, processes))
    assert (identity(settled(config, processes)) == identity(settled(config | {"accumulate": 1}))) is (images is None)


def test_seeds_of_one_setting_are_repetitions_of_it():
    one, again, other = (science(plain(**change)) for change in ({"seed": 1}, {"seed": 2}, {"batch_size": 7}))
    assert setting_id(one) == setting_id(again) != setting_id(other)
    assert nested(one)["optimizer"]["gamma"] == one["optimizer.gamma"] and nested(one)["seed"] == 1
    assert nested({"a.b.c": 1, "a.b.d": 2, "e": 3}) == {"a": {"b": {"c": 1, "d": 2}}, "e": 3}


def test_the_name_of_a_run_is_readable_first():
    changes = {"optimizer.lr": 1.0, "optimizer.gamma": 0.50, "seed": 3, "model.depth": 14}
    config = plain(**changes)
    assert run_name(config) == f"mnist-mlp14-powersgdm-lr1-gamma0.5-seed3-{identity(config)}"
    config = plain("optimizer=adam", "model=wrn26", "dataset=cifar10")
    assert run_name(config) == f"cifar10-wrn26-adam-lr0.001-seed0-{identity(config)}"


def test_a_worker_refuses_another_run_than_was_planned():
    config = plain()
    name = identity(config)
    assert settled(config | {"planned": name})["planned"] == name
    with pytest.raises(ConfigError) as error:
        settled(config | {"planned": "0" * 12})
    assert str(error.value) == f"the plan asks for run {'0' * 12}, but these settings are run {name}"


def test_what_users_code_contains_is_filled_in_where_there_is_some():
    config = settled(plain("optimizer=adamw", **{"optimizer.class_path": "scipy.optimize.X", "optimizer.code": "old"}))
    assert config["optimizer"]["code"].startswith("scipy==")
    assert config["dataset"]["code"] is None and config["model"] == plain()["model"]
    own = {"name": "mine", "class_path": "scipy.optimize.X", "init": "torch"}
    config = settled(plain(model=own, **{"dataset.load": "scipy.stats.load"}))
    assert config["dataset"]["code"].startswith("scipy==") and config["model"]["code"].startswith("scipy==")


def test_a_setting_added_later_counts_from_its_first_other_value_on():
    assert "dataset.validation" not in science(plain())
    assert science(plain(**{"dataset.validation": 5}))["dataset.validation"] == 5
    with pytest.raises(ConfigError) as error:
        identity(plain(**{"optimizer.weight_decay": math.nan}))
    assert str(error.value) == "a setting is nan; only finite numbers can name a run"
