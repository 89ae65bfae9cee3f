"""What is cached between commands equals what would be computed, and is computed again when its sources change."""

import resource
import shutil
import subprocess
import sys

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from runs import cli, kept
from sweeps import plan

from .helpers import ROOT, clean_environment


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "FOLDER", tmp_path / "cache")
    plan.compose.cache_clear()
    yield tmp_path / "cache"
    plan.compose.cache_clear()


def counting(value):
    calls = []
    return lambda: calls.append(1) or value, calls


def test_a_thing_is_computed_once_until_its_sources_change(folder, monkeypatch):
    compute, calls = counting({"a": [1, 2.5, None]})
    for _ in range(2):
        assert kept.kept(["key"], compute) == {"a": [1, 2.5, None]} and len(calls) == 1
    kept.kept(["another"], compute)
    assert len(calls) == 2
    monkeypatch.setattr(kept, "state", lambda: "0123456789ab")
    kept.kept(["key"], compute)
    assert len(calls) == 3 and [path.name for path in folder.iterdir()] == ["0123456789ab"]


def test_a_copied_checkout_does_not_read_what_the_original_kept(monkeypatch, tmp_path):
    """Composed configs have absolute paths."""
    here = kept.state.__wrapped__()
    for path in (path for pattern in kept.SOURCES for path in ROOT.glob(pattern)):
        (tmp_path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    monkeypatch.setattr(kept, "ROOT", tmp_path)
    assert kept.state.__wrapped__() != here


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_damage_and_a_folder_that_cannot_be_written_cost_time_only(folder, monkeypatch, tmp_path, content):
    compute, calls = counting(1)
    kept.kept(["key"], compute)
    (path,) = folder.glob("*/*.json")
    path.write_bytes(content)
    assert kept.kept(["key"], compute) == 1 and len(calls) == 2
    (tmp_path / "file").touch()
    monkeypatch.setattr(kept, "FOLDER", tmp_path / "file")
    assert kept.kept(["key"], compute) == 1 and len(calls) == 3


def composed(*overrides):
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = hydra_compose("train", ["experiment=fig2"], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        plan.compose.cache_clear()
        found = plan.compose(tuple(overrides))
        return found, cli.plain(cli.recomposed(overrides))


def test_a_kept_config_is_the_composed_one_and_the_environment_counts(folder, monkeypatch, tmp_path):
    given = ("experiment=fig1ab", "tier=laptop", "optimizer=powersgdm", "optimizer.lr=1e-3")
    first, anew = composed(*given)
    assert first.config == anew and "dataset.name" in first.interpolated and len(list(folder.glob("*/*"))) == 1
    assert first.choices.items() >= {"optimizer": "powersgdm", "tier": "laptop", "dataset": "cifar10"}.items()
    monkeypatch.setattr(cli, "resolved", None)  # not called again
    with pytest.raises(TypeError):
        composed(*given[:3])
    monkeypatch.undo()
    monkeypatch.setattr(kept, "FOLDER", folder)
    assert composed(*given)[0] == first
    monkeypatch.setenv("POWERSGD_RESULTS", str(tmp_path / "elsewhere"))
    assert composed(*given)[0].config["results"] == str(tmp_path / "elsewhere")


def test_an_entry_is_composed_only_if_it_chooses_what_the_experiment_does_not(folder):
    """figure 2 composes powersgd, which one of its entries chooses; both are what their command lines compose."""
    given = ["experiment=fig2", "tier=paper"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        HydraConfig.instance().set_config(hydra_compose("train", given, return_hydra_config=True))
        powersgd, sgd = (plan.Entry(name, given, {"optimizer": name}, {}, None) for name in ("powersgd", "sgd"))
        assert plan.compose.cache_info().misses == 2
        for entry, name in ((powersgd, "powersgd"), (sgd, "sgd")):
            assert entry.composed == cli.plain(cli.recomposed([*given, f"optimizer={name}"]))
            assert entry.composed["optimizer"]["name"] == name and entry.chosen[-1] == f"optimizer={name}"


def test_a_plan_of_everything_needs_neither_torch_nor_scipys_slow_parts(tmp_path):
    code = """import atexit, runpy, sys
sys.argv = ["sweep.py", "plan=true"]
atexit.register(lambda: print([name for name in ("torch", "scipy.stats", "scipy.optimize") if name in sys.modules]))
runpy.run_path("sweep.py", run_name="__main__")"""
    environment = clean_environment(tmp_path)
    for _ in range(2):  # the first may have to check an optimizer's class
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.slow  # measures
def test_the_everyday_commands_are_fast(tmp_path):
    """CPU seconds, which other processes hardly change."""

    def cpu(script, *arguments):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command, quiet = [sys.executable, script, *arguments, f"results={tmp_path}"], subprocess.DEVNULL
        subprocess.run(command, cwd=ROOT, check=True, env=clean_environment(tmp_path), stdout=quiet, stderr=quiet)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    small = ["dataset=synthetic", "dataset.subset=64", "model.depth=2", "model.width=8", "epochs=1", "device=cpu"]
    for script, arguments, seconds in (("train.py", small, 2.2), ("sweep.py", ["plan=true"], 4)):
        cpu(script, *arguments)
        assert cpu(script, *arguments) < seconds, script
