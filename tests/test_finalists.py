"""Which runs select a setting, step by step, on made-up accuracies: extension beyond the grid, and finalists."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from sweeps.plan import Experiment, Job, selection_rows

from .helpers import ROOT

SEEDS = "protocol.seeds=[100,101,102]"


@pytest.fixture
def tune(monkeypatch, tmp_path):
    """A function from accuracies by (lr, seed) to what is trained in each round, and the selection at the end."""

    def tuned(accuracies: dict[tuple[float, int], float], *given: str, lrs="[0.3,0.1,0.03]", expected=1 + 2 * 2):
        done: set[str] = set()
        monkeypatch.setattr(Job, "done", property(lambda job: job.run.id in done))
        monkeypatch.setattr(Job, "rows", lambda job: [{"test_acc": accuracies[lr(job), job.config["seed"]]}])
        given = ("dataset=synthetic", "model=mlp", f"+grid.paper.sgd.lr={lrs}", "protocol.tune=true", *given)
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            config = compose("train", [*given, f"results={tmp_path}"], return_hydra_config=True)
            HydraConfig.instance().set_config(config)
            experiment = Experiment(config, list(given))
            rounds, to_come = [], []
            while not (plan := experiment.plan()).selections:
                to_come.append(len(plan.to_come))
                rounds.append([(job.stage, lr(job), job.config["seed"]) for job in plan.jobs if not job.done])
                done |= {job.run.id for job in plan.jobs}
        assert to_come[0] == expected
        return rounds, plan.selections[0]

    return tuned


def lr(job: Job) -> float:
    return job.config["optimizer"]["lr"]


def chosen(selection) -> float:
    return dict(selection.chosen.setting)["optimizer.lr"]


def test_the_lucky_setting_of_one_seed_is_tried_with_the_others(tune):
    """As it might have been with SGDM's lr 0.3 at the laptop tier, whose first seed had 0.544."""
    accuracies = {(0.3, 100): 0.544, (0.1, 100): 0.511, (0.03, 100): 0.49}
    accuracies |= {(0.3, 101): 0.47, (0.3, 102): 0.46, (0.1, 101): 0.49, (0.1, 102): 0.48}
    rounds, selection = tune(accuracies, SEEDS, "protocol.finalists=2")
    assert rounds == [
        [("grid", 0.3, 100), ("grid", 0.1, 100), ("grid", 0.03, 100)],
        [("final", 0.3, 101), ("final", 0.1, 101), ("final", 0.3, 102), ("final", 0.1, 102)],
    ]
    assert chosen(selection) == 0.1
    assert "means of 3 seeds, 2 finalists of 3 settings" in selection.reason
    rows = {row["setting"]: row for row in selection_rows([selection])}
    assert [row["selecting_seeds"] for row in rows.values()] == [3, 3, 1]
    assert rows["lr 0.3"]["best_accuracy"] == pytest.approx((0.544 + 0.47 + 0.46) / 3)
    assert [row["chosen"] for row in rows.values()] == ["", "yes", ""]


def test_a_setting_that_is_no_finalist_is_not_chosen_whatever_its_one_seed_says(tune):
    accuracies = {(0.3, 100): 0.54, (0.1, 100): 0.53, (0.03, 100): 0.52}
    accuracies |= {(lr, seed): 0.3 for lr in (0.3, 0.1) for seed in (101, 102)}
    assert chosen(tune(accuracies, SEEDS, "protocol.finalists=2")[1]) == 0.3


def test_without_finalists_every_seed_tries_every_setting(tune):
    accuracies = {(lr, seed): lr for lr in (0.3, 0.1, 0.03) for seed in (100, 101, 102)}
    rounds, selection = tune(accuracies, SEEDS, expected=1)
    assert len(rounds) == 1 and len(rounds[0]) == 9 and {stage for stage, _, _ in rounds[0]} == {"grid"}
    assert chosen(selection) == 0.3


def test_the_grid_is_extended_from_a_finalist_that_wins_at_its_edge(tune):
    """The first seed prefers 0.1, all three 0.03, at the edge: 0.01 is tried and may become a finalist."""
    accuracies = {(0.3, 100): 0.3, (0.1, 100): 0.5, (0.03, 100): 0.49, (0.01, 100): 0.4}
    accuracies |= {(lr, seed): value for lr, value in ((0.1, 0.2), (0.03, 0.48)) for seed in (101, 102)}
    rounds, selection = tune(accuracies, SEEDS, "protocol.finalists=2", "protocol.extend=true")
    assert rounds[1:] == [
        [("final", 0.1, 101), ("final", 0.03, 101), ("final", 0.1, 102), ("final", 0.03, 102)],
        [("extend", 0.01, 100)],
    ]
    assert chosen(selection) == 0.03 and selection.reason.endswith("tried beyond the grid: lr 0.01")
    accuracies |= {(0.01, seed): 0.6 for seed in (100, 101, 102)} | {(0.003, 100): 0.1}
    rounds, selection = tune(accuracies, SEEDS, "protocol.finalists=2", "protocol.extend=true")
    assert rounds[2:] == [
        [("extend", 0.01, 100)],
        [("extend", 0.003, 100)],
        [("final", 0.01, 101), ("final", 0.01, 102)],
    ]
    assert chosen(selection) == 0.01


def test_a_grid_of_one_setting_has_nothing_to_decide(tune):
    rounds, selection = tune({(0.1, 100): 0.5}, SEEDS, "protocol.finalists=2", lrs="[0.1]", expected=1)
    assert rounds == [[("grid", 0.1, 100)]] and chosen(selection) == 0.1
