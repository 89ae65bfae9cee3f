"""decide=hours: what is trained next, when it stops, what it says; and the level of an interval for several looks."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from analysis import looks
from analysis.claims.judge import Verdict
from analysis.simulate import SD, looked
from runs import archive
from sweeps.decide import catch_up, next_looks, spend
from sweeps.plan import Plan

from .helpers import typed


def claim(key, experiment, verdict="inconclusive", labels=("a", "b")):
    return Verdict(key, f"the claim {key}", "", verdict, "", experiment=experiment, labels=labels)


def plans(trained):
    """Experiments of three entries; a run of `dear` takes an hour, one of `cheap` a tenth."""

    def plan(name, seeds):
        jobs = []
        for label in "abc":
            for seed in range(seeds):
                run = SimpleNamespace(id=f"{name}{label}{seed}")
                jobs.append(SimpleNamespace(label=label, done=seed < trained[name], archived=None, run=run))
        return Plan(name, "laptop", Path(), jobs, [])

    return plan


def price(plan, jobs, waiting):
    return len(jobs) * (1.0 if plan.experiment == "dear" else 0.1)


def test_a_plan_wants_the_runs_with_which_another_experiment_chooses_its_settings():
    tuning, own = (SimpleNamespace(label=label, done=False, run=SimpleNamespace(id=label)) for label in ("tuned", "b"))
    plan = Plan("x", "laptop", Path(), [own], [], elsewhere={"a": [tuning]})
    assert plan.wanted() == [tuning, own]
    assert Plan("x", "laptop", Path(), [own], [], elsewhere={"a": [tuning]}, only=["b"]).wanted() == [own]


def test_the_cheapest_look_comes_first_and_takes_only_what_the_claim_compares():
    found = next_looks([claim("x", "dear"), claim("y", "cheap")], plans({"cheap": 3, "dear": 0}), price)
    assert [(look.experiment, look.seeds, len(look.jobs), look.claims) for look in found] == [
        ("cheap", 5, 2 * 2, ("y",)), ("dear", 3, 2 * 3, ("x",)),
    ]  # fmt: skip
    assert not next_looks([claim("y", "cheap")], plans({"cheap": 10}), price)


def test_hours_are_spent_look_by_look_until_all_is_decided_or_nothing_fits():
    trained = {"cheap": 0, "dear": 0}

    def claims():
        decided = trained["cheap"] >= 5
        return [claim("x", "dear"), claim("y", "cheap", "reproduced" if decided else "inconclusive")]

    def train(look):
        trained[look.experiment] = look.seeds
        return look.hours

    lines = list(spend(5.0, claims, lambda open_: next_looks(open_, plans(trained), price), train))
    assert trained == {"cheap": 5, "dear": 0}  # 0.6 and 0.4 hours; the 6 of `dear` do not fit
    assert "cheap of a, b, 3 seeds" in lines[0] and "cheap of a, b, 5 seeds" in lines[1]
    assert "decided: 1 claims" in lines[2] and "reproduced: the claim y" in lines[2]
    assert lines[3] == "the next hour would buy" and lines[4:] == ["  dear of a, b, 3 seeds, 6 runs now, 6.0 hours: x"]


def test_looks_that_an_earlier_command_trained_are_exported_before_anything_is_judged():
    exported = []
    for trained, looks_there in (0, []), (2, [3]), (3, [3, 5]), (4, [3, 5]), (10, [3, 5, 10]):
        exported.clear()
        plan = plans({"cheap": trained})
        open_claims = [claim("x", "cheap"), claim("y", "cheap", labels=("b", "c"))]
        catch_up(open_claims, plan, lambda made: exported.append(len(made.jobs) // 3))
        assert exported == looks_there, trained


def test_a_look_that_leaves_its_runs_undone_is_not_tried_again():
    tried = []
    list(spend(9.0, lambda: [claim("y", "cheap")], lambda open_: next_looks(open_, plans({"cheap": 0}), price),
               lambda look: tried.append(look) or 0.1))  # fmt: skip
    assert len(tried) == 1


def test_the_level_of_one_look_is_95_percent_and_of_three_pocock_s():
    assert looks.pocock((5,)) == pytest.approx(0.95, abs=1e-4)
    assert looks.pocock((1, 2, 3)) == pytest.approx(1 - 0.0221, abs=2e-4)  # Pocock's table for three equal steps
    assert looks.pocock.__wrapped__(looks.LOOKS) == looks.pocock.__wrapped__(looks.LOOKS)  # not the cached value
    assert looks.level("paper") == 0.95 < looks.level("laptop") == looks.pocock(looks.LOOKS)


def test_three_looks_are_wrong_in_5_percent_and_at_95_percent_each_in_more():
    wrong, careless = (sum(looked(0.0, level, times=4000)[:2]) for level in (looks.pocock(looks.LOOKS), 0.95))
    assert wrong <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000) < careless
    reproduced, refuted, _ = looked(2 * SD, looks.pocock(looks.LOOKS), times=1000)
    assert reproduced > 0.9 and refuted < 0.01


def test_further_seeds_of_a_planned_setting_stay_in_the_archive_and_other_settings_do_not(tmp_path):
    def plan(lrs, seeds):
        return {"experiment": "mine", "runs": [
            {"folder": f"/nowhere/run-{lr}{seed}", "label": "sgd", "stage": "report",
             "config": {"optimizer.lr": lr, "seed": seed}} for lr in lrs for seed in range(seeds)]}  # fmt: skip

    archive.export(plan([0.1, 0.3], 4), tmp_path)
    runs, _ = archive.read(tmp_path, "mine")
    ended = [row | {"state": "finished"} for row in runs]
    epochs = [{"run": row["run"], "epoch": 1} for row in ended]
    archive.table.write(tmp_path / "mine-runs.csv", [row | {"epochs": 1} for row in ended])
    archive.table.write(tmp_path / "mine-epochs.csv", epochs)
    archive.export(plan([0.1], 2), tmp_path)
    kept = archive.read(tmp_path, "mine")[0]
    assert {(row["initial_lr"], row["seed"]) for row in kept} == {(0.1, seed) for seed in range(4)}


def test_the_command_trains_a_grid_then_a_look_at_what_it_chose_and_archives_both(tmp_path, monkeypatch):
    wanted = claim("x", "fig1ab", labels=("sgdm",))
    monkeypatch.setattr("sweeps.open_claims.judged_here", lambda results, tier: [wanted])
    monkeypatch.setattr("analysis.looks.LOOKS", (3,))
    small = ["dataset=synthetic", "model=mlp", "model.depth=2", "model.width=8", "epochs=1", "dataset.subset=64"]
    small += ["dataset.test_subset=32", "wandb.mode=disabled", "protocol.extend=false", f"results={tmp_path}"]
    done = typed("sweep.py", "tier=laptop", "decide=5", *small)
    assert done.returncode == 0, done.stderr
    assert "3 runs now" in done.stdout and "no look is left" in done.stdout
    runs, _ = archive.read(tmp_path / "custom" / "archive", "fig1ab")
    ended = [(row["stage"], row["seed"]) for row in runs if row["label"] == "sgdm" and row["state"] == "finished"]
    finals = [("final", seed) for seed in (101, 102) for _ in range(2)]
    assert sorted(ended) == [*finals, *[("grid", 100)] * 3, *[("report", seed) for seed in range(3)]]


def test_decide_is_for_a_tier_with_several_looks_and_known_experiments(tmp_path):
    for wrong in (["tier=paper"], ["tier=laptop", "experiment=fig1ab"]):
        done = typed("sweep.py", "decide=1", *wrong, f"results={tmp_path}")
        assert done.returncode == 2 and "decide=1 is for claims of tier=laptop" in done.stderr
    done = typed("sweep.py", "decide=1", "tier=laptop", "experiments=[fig1ba]", f"results={tmp_path}")
    assert done.returncode == 2 and "experiments=fig1ba: choose from" in done.stderr


def test_decide_takes_only_the_claims_on_the_given_experiments(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "sweeps.open_claims.judged_here",
        lambda results, tier: [claim("x", "fig1ab"), claim("y", "fig7"), claim("z", "fig1ab")],
    )
    judged = []
    monkeypatch.setattr("sweeps.decide.spend", lambda hours, claims, ahead, train: judged.extend(claims()) or ())
    done = typed("sweep.py", "tier=laptop", "decide=1", "experiments=[fig7,fig2]", f"results={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert [one.key for one in judged] == ["y"]
