"""What a run costs: which measurement counts for which device, ranges for the rest, plans without torch."""

import json
import subprocess
import sys
from dataclasses import asdict
from fractions import Fraction
from types import SimpleNamespace

import pytest

from runs import cli
from runs.files import write_json
from sweeps import cost, place
from sweeps.place import Gpu, Place

from .helpers import ROOT, composed, make_config

H100 = Place("H100", 2, (Gpu("0", "H100", 80.0), Gpu("1", "H100", 80.0)))
CPU = Place("cpu", 2)


@pytest.fixture
def config(tmp_path):
    return asdict(make_config(tmp_path, "powersgdm", **{"dataset.subset": 1000, "dataset.test_subset": 300}))


def calibrated(results, device, config, **entry):
    found = {"device": device, "key": cost.key(config), "seconds_per_image": 1e-3} | entry
    write_json(results / "calibration.json", {"machine": cost._machine(), "networks": {"one": found}})


def test_arithmetic_is_a_range_and_a_measurement_of_this_device_is_not(config, tmp_path):
    assert cost.Costs([], tmp_path, CPU).of(config).spread == cost.SPREAD
    calibrated(tmp_path, "cpu", config)
    found = cost.Costs([], tmp_path, CPU).of(config)
    assert (found.source, found.spread) == ("calibrated", 1)
    assert found.seconds == pytest.approx(2 * (1000 + 300 / 3) * 1e-3)
    four = cost.Costs([], tmp_path, CPU).of(config | {"evaluations": 4})
    assert four.seconds == pytest.approx(2 * (1000 + 4 * 300 / 3) * 1e-3)
    assert cost.Costs([], tmp_path, H100).of(config).source == "arithmetic"  # a CPU's says nothing of a GPU


def test_calibration_times_many_steps_of_a_small_network_and_each_has_a_full_batch(config, tmp_path, monkeypatch):
    from training.trainer import Trainer

    monkeypatch.setattr(cost, "CALIBRATION_SECONDS", 0.3)
    sizes, step = [], Trainer.train_step

    def counted(self, inputs, labels):
        sizes.append(self.images - self.step * self.config.batch_size >= len(labels))
        step(self, inputs, labels)

    monkeypatch.setattr(Trainer, "train_step", counted)
    cost.calibrate([SimpleNamespace(config=config)], tmp_path, CPU, quiet=True)
    assert len(sizes) > 10 and all(sizes)
    assert cost.Costs([], tmp_path, CPU).of(config).source == "calibrated"


@pytest.mark.parametrize("change", [{"precision": "bf16"}, {"compile": "default"}, {"batch_size": 64}])
def test_other_numerics_or_another_batch_are_not_what_was_measured(change, config, tmp_path):
    calibrated(tmp_path, "H100", config)
    costs = cost.Costs([], tmp_path, H100)
    assert costs.of(config).source == "calibrated" and costs.of(config | change).source == "arithmetic"


def test_gpu_check_comes_before_arithmetic_for_any_optimizer_and_says_how_many_fit(config, tmp_path, monkeypatch):
    monkeypatch.setattr(cost.os, "cpu_count", lambda: 64)
    row = {"step": cost.step_key(config), "images_per_second": 2000.0, "peak_gib": 17.0}
    write_json(tmp_path / "gpu_check.json", {"gpu": "H100", "models": {"mlp": {"strict": row}}})
    costs = cost.Costs([], tmp_path, H100)
    other = config | {"optimizer": config["optimizer"] | {"name": "adam"}}
    assert costs.of(other).source == "gpu-check" and costs.of(other).seconds == pytest.approx(2 * 1100 / 2000)
    assert costs.share(config) == Fraction(1, 4)  # of 80 GiB, 72 may be planned
    asked = config | {"launcher": config["launcher"] | {"runs_per_gpu": 2}}
    assert costs.share(asked) == Fraction(1, 2) and cost.Costs([], tmp_path, CPU).share(config) == 1


def test_a_cluster_s_gpus_are_those_that_were_measured_if_of_one_kind(config, tmp_path):
    cluster = Place(place.UNKNOWN_GPU, 256)
    calibrated(tmp_path, "H100", config)
    assert cost.Costs([], tmp_path, cluster).of(config).source == "calibrated"


def test_what_was_planned_before_is_planned_without_torch(config, tmp_path):
    cost.Costs([], tmp_path, H100).of(config)  # counts the network, and keeps it
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    code = f"""
import json, sys
from pathlib import Path
from sweeps.cost import Costs
from sweeps.place import Place
config = json.loads(Path({str(path)!r}).read_text())
print(Costs([], Path({str(tmp_path)!r}), Place("GPU", 8)).of(config).seconds > 0, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_what_stays_on_disk_is_what_was_asked_for(config, tmp_path):
    costs = cost.Costs([], tmp_path, H100)
    sizes = {keep: costs.disk_gb(config | {"keep": keep}) for keep in ("all", "weights", "none")}
    assert sizes["all"] == pytest.approx(4 * sizes["weights"]) and sizes["none"] == 0  # weights and velocity, twice


EXPERIMENTS = sorted(path.stem for path in (ROOT / "configs/experiment").glob("*.yaml"))


@pytest.mark.parametrize("tier", ["paper", "laptop"])
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_plan_of_an_experiment_counts_no_network_anew(experiment, tier):
    config = composed(f"experiment={experiment}", f"tier={tier}")
    if not config.unavailable_reason:
        name = json.dumps(cost._network(cli.plain(config)), sort_keys=True)
        assert name in json.loads(cost.COUNTED.read_text())


def test_the_sizes_in_git_are_those_that_are_counted():
    """Of the smallest network of each kind."""
    known, kinds = json.loads(cost.COUNTED.read_text()), {}
    for name, (parameters, _) in known.items():
        kind = json.loads(name)["model"]["name"]
        kinds[kind] = min(kinds.get(kind, (parameters, name)), (parameters, name))
    assert set(kinds) >= {"mlp", "resnet50", "densenet121", "wrn26", "resnext29"}
    for _, name in kinds.values():
        assert cost._counted(json.loads(name)) == known[name]
