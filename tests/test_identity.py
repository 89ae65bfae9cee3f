"""A run's name always says what it computed: unknown keys, users' code, other data, and plans and their workers."""

import math
from dataclasses import asdict

import pytest

from runs import archive, cli, code
from runs.code import code_of, load
from runs.identity import identity, science, setting_id
from runs.run import RunError
from runs.schema import ConfigError
from training.execute import execute
from training.rerun import compare, rerun

from .helpers import ROOT, composed, make_config, plan_of, run_of, typed

MINE = """
import torch
import beside

class Mine(torch.optim.SGD):
    def __init__(self, params, lr):
        super().__init__(params, lr * beside.FACTOR)
"""
SMALL = ["dataset=synthetic", "model=mlp", "model.depth=2", "model.width=8", "epochs=1", "wandb.mode=disabled"]


# Unknown keys


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("+optimizer.gama=0.5", "optimizer.gama: did you mean optimizer.gamma?"),
        ("+optimizer.nesterov=true", "unknown setting optimizer.nesterov"),
        ("+optimizer.maximize=true", "unknown setting optimizer.maximize"),
        ("+stop.sucess=0.9", "stop.sucess: did you mean stop.success?"),
        ("+model.widht=3", "model.widht: did you mean model.width?"),
        ("+dataset.subsett=3", "dataset.subsett: did you mean dataset.subset?"),
        ("+schedule.factor=0.5", "unknown setting schedule.factor"),
        ("+protocol.tuned=true", "protocol.tuned: did you mean protocol.tune?"),
        ("+wandb.groupp=x", "unknown setting wandb.groupp"),
        ("+source.momentum=0.9", "unknown setting source.momentum"),
        ("+epoch=3", "epoch: did you mean epochs?"),
    ],
)
def test_a_key_that_no_schema_has_is_refused_in_every_section(override, says):
    with pytest.raises(ConfigError, match=says.replace("?", r"\?")):
        cli.plain(composed(override))


def test_torch_s_further_arguments_of_sgd_are_settings_and_adam_s_are_refused():
    plainly = identity(cli.plain(composed("optimizer=sgdm")))
    assert identity(cli.plain(composed("optimizer=sgdm", "optimizer.nesterov=true"))) != plainly
    assert identity(cli.plain(composed("optimizer=sgdm", "optimizer.dampening=0.5"))) != plainly
    with pytest.raises(ConfigError, match=r"unknown setting optimizer\.betas"):
        cli.plain(composed("optimizer=adam", "+optimizer.betas=[0.8,0.99]"))


@pytest.mark.parametrize("given", ["+grid.paper.sgd.dampen=[0.1]", "also=[adamw] +stop.foo=1"])
def test_a_sweep_refuses_them_too_and_leaves_nothing(given, tmp_path):
    done = typed("sweep.py", *SMALL, "+grid.paper.sgd.lr=[0.1]", *given.split(), f"results={tmp_path / 'r'}")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "unknown setting" in done.stderr and not list((tmp_path / "r").glob("runs/*"))


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b", "ümlaut"])
def test_a_name_that_is_no_harmless_part_of_a_path_is_refused(name):
    with pytest.raises(ConfigError):
        cli.plain(composed("optimizer=adamw", f"optimizer.name='{name}'"))


@pytest.mark.parametrize("override", ["schedule.name=step", "optimizer.name=adam", "model.name=resnet50"])
def test_a_name_changed_by_hand_is_refused(override):
    with pytest.raises(ConfigError):
        cli.plain(composed(override))


# Users' code


def test_the_content_of_a_user_s_file_and_of_what_it_imports_beside_itself_names_the_run(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "beside.py").write_text("FACTOR = 1.0\n")
    (tmp_path / "unrelated.py").write_text("1\n")

    def name():
        path = f"{tmp_path / 'mine.py'}:Mine"
        return identity(cli.plain(composed("optimizer=adamw", f"optimizer.class_path='{path}'")))

    first = name()
    (tmp_path / "unrelated.py").write_text("2\n")
    assert name() == first
    (tmp_path / "beside.py").write_text("FACTOR = 2.0\n")
    second = name()
    (tmp_path / "mine.py").write_text(MINE + "# other\n")
    assert len({first, second, name()}) == 3


@pytest.mark.parametrize("changed", ["mine.py", "parts/__init__.py", "parts/inner.py", "parts/helper.py"])
@pytest.mark.parametrize("path", ["{}/mine.py:Mine", "mine.Mine", "parts.inner.Mine"])
def test_packages_beside_a_file_and_modules_that_are_not_installed_count_by_content(
    path, changed, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    texts = {"mine.py": "from parts import inner", "parts/__init__.py": "", "parts/inner.py": "from .helper import F",
             "parts/helper.py": "F = 1"}  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    path = path.format(tmp_path)
    before = code_of(path)
    (tmp_path / changed).write_text(f"{texts[changed]}\nG = 2")
    assert before and (code_of(path) != before) == (changed != "mine.py" or "mine" in path)


def test_a_module_put_beside_ours_counts_by_content_and_is_not_run_under_a_later_one(tmp_path, monkeypatch):
    monkeypatch.setattr(code, "ROOT", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "__init__.py").write_text("from . import others")
    file = tmp_path / "ours" / "mine.py"
    names = []
    for text in ("class Mine: pass", "class Mine: deeper = True"):
        file.write_text(text)
        names.append(code_of("ours.mine.Mine"))
    (tmp_path / "ours" / "others.py").write_text("covered = True")
    assert code_of("ours.mine.Mine") == names[1] and len({None, *names}) == 3
    file.write_text("class Mine: pass")
    load("ours.mine.Mine", names[0])
    file.write_text("class Mine: deeper = True")
    with pytest.raises(ConfigError, match="changed while the program ran"):
        load("ours.mine.Mine", names[1])


def test_arguments_that_differ_never_share_a_name():
    plainly = cli.plain(composed("optimizer=adamw"))

    def name(arguments):
        return identity(plainly | {"optimizer": plainly["optimizer"] | {"arguments": arguments}})

    several = ({}, {"a": {}}, {"a": []}, {"a": None}, {"a": ""}, {"a": 0}, {"a": {"b": {}}})
    assert len({name(arguments) for arguments in several}) == len(several)
    for arguments in ({"a.b": 1}, {1: 1}):
        with pytest.raises(ConfigError, match="cannot be a name"):
            name(arguments)


def test_a_changed_file_is_run_anew_in_the_same_process_and_never_under_the_old_name(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "beside.py").write_text("FACTOR = 1.0\n")
    path = f"{tmp_path / 'mine.py'}:Mine"
    first = code_of(path)
    assert load(path, first)([__import__("torch").zeros(1)], 1.0).defaults["lr"] == 1.0
    (tmp_path / "beside.py").write_text("FACTOR = 3.0\n")
    with pytest.raises(ConfigError, match="changed while the program ran"):
        load(path, first)
    assert load(path, code_of(path))([__import__("torch").zeros(1)], 1.0).defaults["lr"] == 3.0


def test_a_class_of_another_package_brings_its_version_and_ours_and_torch_s_do_not():
    assert code_of("scipy.optimize.X").startswith("scipy==1.")
    assert code_of("torch.optim.AdamW") is None and code_of("optimizers.controls.RescaledSGD") is None


# Plans and workers


def test_a_worker_computes_the_identity_that_was_planned(tmp_path):
    """Also where other settings are made of the one that the grid varies."""
    grid = "+grid={paper:{powersgd:{lr:[1.0,0.1],source.lr_in_velocity:[true,false],dataset.mean:[[0.1,0.2,0.3]]}}}"
    jobs = plan_of(*SMALL, grid, f"results={tmp_path}")
    assert len({job.run.id for job in jobs}) == len(jobs) == 4
    for job in jobs:
        assert identity(cli.plain(composed(*job.overrides))) == job.run.id


EXPERIMENTS = {path.stem for path in (ROOT / "configs" / "experiment").glob("*.yaml")}
NO_PAPER_TIER = {path.stem for path in (ROOT / "configs" / "tier" / "paper" / "experiment").glob("*.yaml")}


@pytest.mark.parametrize("name", sorted(EXPERIMENTS - NO_PAPER_TIER))
def test_every_experiment_s_command_lines_compose_what_its_plan_names(name, tmp_path):
    jobs = plan_of(f"experiment={name}", f"results={tmp_path}")
    alike = {tuple(path for path, _ in job.setting): job for job in jobs}  # one for each set of axes
    for job in alike.values():
        assert identity(cli.plain(composed(*job.overrides))) == job.run.id


def test_what_was_not_planned_is_refused_with_both_names():
    name = identity(cli.plain(composed()))
    assert cli.plain(composed(f"planned='{name}'"))["planned"] == name
    with pytest.raises(ConfigError, match=f"the plan asks for run 0123456789ab, but these settings are run {name}"):
        cli.plain(composed("planned='0123456789ab'"))


def test_two_weight_decays_are_two_settings_and_two_seeds_one():
    one, other = (cli.plain(composed("optimizer=sgd", f"optimizer.weight_decay={wd}")) for wd in (0, 1e-4))
    again = one | {"seed": 7}
    assert setting_id(science(one)) == setting_id(science(again)) != setting_id(science(other))
    assert identity(one) != identity(again)


# Data


def test_a_run_records_its_data_and_does_not_resume_on_others(tmp_path, fake_mnist):
    config = make_config(tmp_path)
    run = execute(config)
    data = run.status()["data"]
    assert len(data) == 12
    other = run_of(make_config(tmp_path, seed=1))
    other.folder.mkdir()
    other.begin({}, {}, "0123456789ab")
    other.write_status("running", 0, 2, 0.0)
    with pytest.raises(RunError, match=f"other data .fingerprint 0123456789ab, now {data}"):
        execute(make_config(tmp_path, seed=1))
    assert other.status()["data"] == "0123456789ab"


# Reruns


def test_a_row_is_identical_close_or_different():
    old = {"run": "x", "epoch": 1, "train_loss": 0.123457, "seconds": 3.0, "dead_units_1": 0}
    assert compare(old, {"epoch": 1, "train_loss": 0.1234567, "seconds": 9.0, "dead_units_1": 0}) == (0.0, "identical")
    assert compare(old, {"epoch": 1, "train_loss": 0.1235, "dead_units_1": 0})[1].startswith("close: train_loss")
    assert compare(old, {"epoch": 1, "train_loss": 0.123457, "dead_units_1": 3})[1].startswith("close: dead_units_1")
    assert compare(old, {"epoch": 1, "train_loss": 0.2, "dead_units_1": 0})[1].startswith("different: train_loss")
    assert compare(old, {"epoch": 1, "train_loss": math.nan, "dead_units_1": 0})[1].startswith("different")


def test_an_archived_run_is_trained_again_from_its_archive_alone(tmp_path, fake_mnist):
    config = make_config(tmp_path, experiment="mine", tier="laptop")
    run = execute(config)
    entry = {"folder": str(run.folder), "label": "powersgdm", "stage": "grid", "config": science(asdict(config))}
    archive.export({"experiment": "mine", "runs": [entry]}, tmp_path / "results" / "laptop" / "archive")
    here = asdict(make_config(tmp_path, "adam", epochs=7))  # the archive's settings count, not these
    for which in (run.id, "laptop/mine:1"):
        assert rerun(which, here, None, lambda row: None)[0]
    agrees, lines = rerun(run.id, here, 1, lambda row: None)
    assert agrees and lines[0] == "epoch   1  identical" and "1 of 1 rows identical" in lines[1]
    with pytest.raises(ConfigError, match="no archive below"):
        rerun("laptop/mine:2", here, None, lambda row: None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dataset.image_shape": [1, 28, 27]}, r"dataset.image_shape=\[1, 28, 27\]: mnist has images \[1, 28, 28\]"),
        ({"dataset.num_classes": 9}, "dataset.num_classes=9: mnist has labels up to 9"),
        ({"dataset.augment": "resized_crop_flip"}, "dataset.augment=resized_crop_flip: mnist has none and crop_flip"),
        ({"threads": 100_000}, "threads=100000: this machine has"),
        ({"device": "meta"}, "device=meta computes no values"),
    ],
)
def test_what_does_not_fit_the_data_or_the_machine_is_refused_and_leaves_no_records(
    changes, says, tmp_path, fake_mnist
):
    config = make_config(tmp_path, **changes)
    with pytest.raises(ConfigError, match=says):
        execute(config)
    assert not run_of(config).status()
