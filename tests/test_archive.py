"""The archive: ended runs as tables, which figures and sweeps read without the run folders."""

import json
from dataclasses import asdict

import pandas as pd
import pytest

from analysis.records import NoRecords, collect, curves, load
from runs import archive, table
from runs.identity import digest, science
from training.execute import execute

from .helpers import ROOT, make_config, plan_of, run_of


def plan(*configs) -> dict:
    runs = [{"folder": str(run_of(config).folder), "label": config.optimizer.name, "stage": "grid",
             "config": science(asdict(config))} for config in configs]  # fmt: skip
    return {"experiment": "trial", "tier": "smoke", "changes": [], "runs": runs}


@pytest.fixture
def two(tmp_path, fake_mnist):
    """A run that has ended and one that has not begun."""
    done, waiting = make_config(tmp_path, "powersgd"), make_config(tmp_path, "sgd", seed=1)
    execute(done)
    return done, waiting


def test_what_was_exported_is_what_the_run_says(two, tmp_path):
    archive.export(plan(*two), tmp_path / "archive")
    runs, epochs = archive.read(tmp_path / "archive", "trial")
    assert [run["state"] for run in runs] == ["finished", archive.MISSING]
    assert runs[0]["environment"] == run_of(two[0]).status()["environment"]
    assert (runs[0]["gamma"], runs[1]["gamma"], runs[0]["depth"]) == (two[0].optimizer.gamma, None, 3)
    for row, ours in zip(run_of(two[0]).rows(), epochs, strict=True):
        assert {key: ours[key] for key in row} == pytest.approx(row, rel=1e-5)
        assert ours["run"] == run_of(two[0]).id


def test_runs_that_are_gone_stay_in_the_archive_and_new_ones_join(two, tmp_path):
    folder = tmp_path / "archive"
    archive.export(plan(*two), folder)
    before = (folder / "trial-epochs.csv").read_bytes()
    moved = run_of(two[0]).folder.rename(tmp_path / "elsewhere")
    archive.export(plan(*two), folder)
    assert (folder / "trial-epochs.csv").read_bytes() == before
    execute(two[1])
    archive.export(plan(*two), folder)
    runs, epochs = archive.read(folder, "trial")
    assert [run["state"] for run in runs] == ["finished", "finished"] and len(epochs) == 4
    assert moved.exists()


def test_a_run_that_the_plan_no_longer_asks_for_leaves_the_archive(two, tmp_path):
    archive.export(plan(*two), tmp_path / "archive")
    archive.export(plan(two[1]), tmp_path / "archive")
    runs, epochs = archive.read(tmp_path / "archive", "trial")
    assert len(runs) == 1 and epochs == []


def test_an_entry_whose_setting_is_not_chosen_yet_keeps_its_archived_runs(two, tmp_path):
    """As after an interrupted sweep of a fresh clone: nothing of the archive in git may go before it is replaced."""
    folder = tmp_path / "archive"
    archive.export(plan(*two), folder)
    before = (folder / "trial-epochs.csv").read_bytes()
    label = plan(*two)["runs"][0]["label"]
    choosing = {"choosing": {label: archive.of_optimizer(plan(two[0])["runs"][0]["config"])}}
    archive.export(plan(two[1]) | choosing, folder)
    assert (folder / "trial-epochs.csv").read_bytes() == before
    archive.export(plan() | choosing, folder)  # not one of its runs is planned yet
    assert (folder / "trial-epochs.csv").read_bytes() == before
    choosing["choosing"][label] += ["optimizer.newer"]  # a setting that the archived runs have not
    archive.export(plan(two[1]) | choosing, folder)
    assert archive.read(folder, "trial")[1] == []


def test_figures_read_the_archive_with_and_without_the_runs(two, tmp_path):
    results = tmp_path / "results"
    (results / "smoke").mkdir(parents=True)
    (results / "smoke" / "plan-trial.json").write_text(json.dumps(plan(*two)))
    rows, provenance = collect(results, "smoke", "trial")
    assert provenance["runs"] == 1 and provenance["missing"] == ["sgd, lr 0.01, depth 3, seed 1"]
    assert provenance["axes"]["depth"] == [3]
    run_of(two[0]).folder.rename(tmp_path / "elsewhere")
    (results / "smoke" / "plan-trial.json").unlink()
    assert rows["optimizer"].unique().tolist() == ["powersgd"] and curves(rows, "epoch") == [[1, 2]]
    redrawn, same = collect(results, "smoke", "trial", redraw=True)
    pd.testing.assert_frame_equal(redrawn, rows)
    assert same == provenance
    for redraw in (True, False):
        with pytest.raises(NoRecords, match=r"run: python sweep\.py experiment=absent tier=smoke"):
            collect(results, "smoke", "absent", redraw=redraw)


def test_rows_by_run_finds_every_archived_run(two, tmp_path):
    archive.export(plan(*two), tmp_path / "smoke" / "archive")
    found = archive.rows_by_run(tmp_path / "smoke")
    assert list(found) == [run_of(two[0]).id] and len(found[run_of(two[0]).id]) == 2


def test_two_weight_decays_at_one_lr_stay_two_settings(tmp_path, fake_mnist):
    configs = [make_config(tmp_path, "sgd", seed=seed, **{"optimizer.weight_decay": decay})
               for decay in (0.0, 0.5) for seed in (0, 1)]  # fmt: skip
    for config in configs:
        execute(config)
    archive.export(plan(*configs), tmp_path / "archive")
    runs, epochs = load(tmp_path / "archive", "trial")
    assert runs["setting"].nunique() == 2
    assert [sorted(seeds) for seeds in epochs.groupby("setting")["seed"].unique()] == [[0, 1], [0, 1]]
    assert list(epochs["entry"].unique()) == ["sgd, weight_decay 0", "sgd, weight_decay 0.5"]
    best = epochs.groupby("setting", sort=False)["train_loss"].min()
    assert best.iloc[0] < best.iloc[1]  # so much decay keeps the weights at 0


def test_a_seed_more_is_no_other_setting_and_a_lone_setting_is_named_by_its_label(two, tmp_path):
    archive.export(plan(*two), tmp_path / "archive")
    runs, _ = load(tmp_path / "archive", "trial")
    assert list(runs["entry"]) == ["powersgd", "sgd"]
    configs = [json.loads(text) for text in runs["config"]]
    assert configs[0]["optimizer.weight_decay"] == two[0].optimizer.weight_decay
    same = [archive.setting(json.dumps(configs[0] | {"seed": seed})) for seed in (0, 1)]
    assert same[0] == same[1] == runs["setting"][0] != runs["setting"][1]


def test_frames_have_the_declared_types(two, tmp_path):
    archive.export(plan(*two), tmp_path / "archive")
    runs, epochs = load(tmp_path / "archive", "trial")
    kinds = {"gamma": "float64", "depth": "int64", "label": "str", "environment_changes": "Int64", "config": "str"}
    assert {name: str(runs[name].dtype) for name in kinds} == kinds
    assert str(epochs["dead_units_1"].dtype) == "int64" and str(epochs["train_acc"].dtype) == "float64"


def test_an_archive_or_plan_without_configs_is_refused_in_a_line(two, tmp_path):
    archive.export(plan(*two), tmp_path / "results" / "smoke" / "archive")
    path = tmp_path / "results" / "smoke" / "archive" / "trial-runs.csv"
    table.write(path, [{key: value for key, value in row.items() if key != "config"} for row in table.read(path)])
    with pytest.raises(NoRecords, match="older version"):
        load(path.parent, "trial")
    old = plan(*two)
    del old["runs"][1]["config"]
    (tmp_path / "results" / "smoke" / "plan-trial.json").write_text(json.dumps(old))
    with pytest.raises(NoRecords, match=r"older version; run: python sweep\.py experiment=trial"):
        collect(tmp_path / "results", "smoke", "trial")


@pytest.mark.parametrize("path", sorted((ROOT / "results").glob("*/archive/*-runs.csv")), ids=lambda path: path.stem)
def test_a_run_in_git_says_of_what_config_it_is(path):
    assert all(digest(row["config"]) == row["run"] for row in table.read(path))


def test_a_figure_names_the_runs_that_had_other_data(tmp_path, fake_mnist):
    configs = [make_config(tmp_path, "sgd", seed=seed) for seed in (0, 1, 2)]
    runs = [execute(config) for config in configs]
    status = runs[2].status() | {"data": "0123456789ab"}
    status["digests"] = runs[2]._digests(status)
    (runs[2].folder / "status.json").write_text(json.dumps(status))
    archive.export(plan(*configs), tmp_path / "results" / "smoke" / "archive")
    _, provenance = collect(tmp_path / "results", "smoke", "trial", redraw=True)
    assert provenance["other_data"] == ["sgd, lr 0.01, depth 3, seed 2"]


def test_a_run_that_is_archived_at_one_tier_counts_as_done_at_another():
    """MNIST's experiments are the same at the laptop tier as in the paper."""
    for tier in ("paper", "laptop"):
        jobs = plan_of("experiment=fig2", f"tier={tier}", "archive=true")
        assert jobs and all(job.done for job in jobs)
