"""The archive: ended runs as tables, that figures and sweeps read where the runs are not."""

import json

import pytest

from analysis.records import NoRecords, collect
from runs import archive
from training.execute import execute

from .helpers import make_config, run_of


def plan(*configs) -> dict:
    runs = []
    for config in configs:
        runs.append({
            "folder": str(run_of(config).folder), "label": config.optimizer.name, "stage": "grid",
            "dataset": "mnist", "model": vars(config.model), "optimizer": vars(config.optimizer),
            "schedule": "constant", "epochs": config.epochs, "seed": config.seed,
        })  # fmt: skip
    return {"experiment": "trial", "tier": "smoke", "changes": [], "runs": runs}


@pytest.fixture
def two(tmp_path, fake_mnist):
    """A run that has ended and one that has not begun."""
    done, waiting = make_config(tmp_path, "powersgd"), make_config(tmp_path, "sgd", seed=1)
    execute(done)
    return done, waiting


def test_what_was_exported_is_what_the_run_says(two, tmp_path):
    archive.export(plan(*two), tmp_path / "archive")
    runs, epochs = archive.load(tmp_path / "archive", "trial")
    assert [run["state"] for run in runs] == ["finished", archive.MISSING]
    assert runs[0]["environment"] == run_of(two[0]).status()["environment"]
    assert (runs[0]["gamma"], runs[1]["gamma"], runs[0]["depth"]) == (two[0].optimizer.gamma, None, 3)
    for row, ours in zip(run_of(two[0]).rows(), epochs, strict=True):
        assert {key: ours[key] for key in row} == pytest.approx(row, rel=1e-5)
        assert ours["optimizer"] == "powersgd" and ours["seed"] == 0


def test_runs_that_are_gone_stay_in_the_archive_and_new_ones_join(two, tmp_path):
    folder = tmp_path / "archive"
    archive.export(plan(*two), folder)
    before = (folder / "trial-epochs.csv").read_bytes()
    moved = run_of(two[0]).folder.rename(tmp_path / "elsewhere")
    archive.export(plan(*two), folder)
    assert (folder / "trial-epochs.csv").read_bytes() == before
    execute(two[1])
    archive.export(plan(*two), folder)
    runs, epochs = archive.load(folder, "trial")
    assert [run["state"] for run in runs] == ["finished", "finished"] and len(epochs) == 4
    assert moved.exists()


def test_a_run_that_the_plan_no_longer_asks_for_leaves_the_archive(two, tmp_path):
    archive.export(plan(*two), tmp_path / "archive")
    archive.export(plan(two[1]), tmp_path / "archive")
    runs, epochs = archive.load(tmp_path / "archive", "trial")
    assert len(runs) == 1 and epochs == []


def test_figures_read_the_archive_with_and_without_the_runs(two, tmp_path):
    results = tmp_path / "results"
    (results / "smoke").mkdir(parents=True)
    (results / "smoke" / "plan-trial.json").write_text(json.dumps(plan(*two)))
    rows, provenance = collect(results, "smoke", "trial")
    assert provenance["runs"] == 1 and provenance["missing"] == ["sgd, lr 0.01, depth 3, seed 1"]
    assert provenance["axes"]["depth"] == [3]
    run_of(two[0]).folder.rename(tmp_path / "elsewhere")
    (results / "smoke" / "plan-trial.json").unlink()
    assert collect(results, "smoke", "trial", redraw=True) == (rows, provenance)
    with pytest.raises(NoRecords, match="experiment=absent"):
        collect(results, "smoke", "absent", redraw=True)


def test_rows_by_run_finds_every_archived_run(two, tmp_path):
    archive.export(plan(*two), tmp_path / "smoke" / "archive")
    found = archive.rows_by_run(tmp_path / "smoke")
    assert list(found) == [run_of(two[0]).id] and len(found[run_of(two[0]).id]) == 2
