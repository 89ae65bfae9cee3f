"""An experiment that takes its settings from another's choice: figure 1's first epochs, figure 7."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from runs.schema import ConfigError
from sweeps import protocol, show
from sweeps.place import place
from sweeps.plan import Experiment, Selection

from .helpers import ROOT


@pytest.fixture
def plan(monkeypatch, tmp_path):
    """A function from overrides to the plan, where the grids of `chosen` have chosen their first setting."""

    def make(*given: str, chosen=("sgdm", "powersgd")):
        def tune(self, entry):
            best = protocol.Score(entry.settings()[0], 0.5, 1)
            return self._jobs(entry, entry.settings(), [100], "grid"), (
                Selection(entry.label, best, "", [best]) if entry.label in chosen else None
            )

        monkeypatch.setattr(Experiment, "_tune", tune)
        given = (*given, f"results={tmp_path}", f"runs={tmp_path}/runs")
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            config = compose("train", list(given), return_hydra_config=True)
            HydraConfig.instance().set_config(config)
            return Experiment(config, list(given)).plan()

    return make


def test_the_first_epochs_have_the_settings_of_the_late_regime(plan):
    found = plan("experiment=fig1ab_early", "tier=laptop")
    about = {
        (job.label, job.stage, job.config["optimizer"]["lr"], job.config["optimizer"].get("gamma")): job.config
        for job in found.jobs
    }
    assert set(about) == {("sgdm", "report", 0.3, None), ("powersgd", "report", 0.3, 0.4)}
    for config in about.values():
        assert (config["dataset"]["subset"], config["epochs"], config["evaluations"]) == (None, 5, 4)
        assert config["schedule"]["milestones"][0] > config["epochs"]
    assert len(found.jobs) == 2 * 5 and len(found.to_come) == 7 * 5 and not found.selections


def test_a_plan_says_whose_choice_it_waits_for(plan):
    found = plan("experiment=fig1ab_early", "tier=smoke", chosen=())
    assert {job.config["experiment"] for jobs in found.elsewhere.values() for job in jobs} == {"fig1ab"}
    text = show.summary(found, place(found.elsewhere["sgdm"][0].config))
    start = "fig1ab_early, tier smoke: 0 runs, 0 done, at least 12 more once fig1ab has chosen; 32 epochs to train"
    assert text.startswith(start)  # those with which fig1ab chooses
    line = show.plan_table([found], place(found.elsewhere["sgdm"][0].config)).splitlines()[1]
    assert line.split()[:4] == ["fig1ab_early", "0", "0", "12"]


def test_figure_7_takes_what_figure_1_chose(plan):
    figure1, figure7 = (plan(f"experiment={name}", "tier=laptop") for name in ("fig1ab", "fig7"))
    shared = {job.run.id for job in figure7.jobs if job.label in ("sgdm", "powersgd")}
    assert shared == {job.run.id for job in figure1.jobs if job.stage == "report"}
    cosine = [job.config["schedule"] for job in figure7.jobs if job.label == "sgdm-cosine"]
    assert cosine == [{"name": "warm_restarts", "first": 160, "longer": 1}] * 5


def test_an_entry_that_is_not_there_is_one_line(plan):
    with pytest.raises(ConfigError, match=r"settings_of=fig1ab\.nadam: experiment=fig1ab tunes no entry nadam"):
        plan("experiment=fig7", "tier=laptop", "+grid.laptop.mine={optimizer: sgdm, settings_of: fig1ab.nadam}")
