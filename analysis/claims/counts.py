"""Claims about single runs: whether a network trains, how far it gets, and how soon (figures 2 and 4)."""

from typing import Annotated, Any, ClassVar, Literal

import pandas as pd
from pydantic import Field

from analysis.statistics import Contrast, share_limit
from analysis.verdicts import INCONCLUSIVE, LEAST_SEEDS, NOT_REPRODUCED, REPRODUCED

from .entries import first_epoch
from .parts import Part, Sample, by_setting, per_run, seeds_missing, sentence
from .schema import Archive, Bounds, Claim, Column, Finding, NoVerdict, Settings, Share


class OneSetting(Claim):
    """One setting against a number, judged by its own seeds."""

    settings: Settings
    form: ClassVar[str] = ".4f"
    step: ClassVar[float] = 0.0  # its values are rounded to multiples of this

    def judged(self, archive: Archive) -> pd.Series:
        return self.settings.chosen(archive.runs)

    def judge(self, archive: Archive) -> Finding:
        judged = archive.only(self.judged(archive))
        settings = judged.runs["setting"].unique()
        if judged.epochs.empty:
            raise NoVerdict("no run")
        if len(settings) != 1:
            raise ValueError(
                f"{len(settings)} settings of {archive.experiment} are {self.settings!r}; a claim is of one"
            )
        sample = Sample(by_setting(judged.runs, self.values(judged.epochs), ["setting"]), step=self.step)
        part = Part(self.name(), lambda: Contrast(sample.at(settings[0])), sample, self.bounds(), self.form,
                    self.note(judged))  # fmt: skip
        return sentence([part], judged)

    def values(self, epochs: pd.DataFrame) -> pd.Series:
        """One value per run."""
        raise NotImplementedError

    def name(self) -> str:
        raise NotImplementedError

    def bounds(self) -> Bounds:
        raise NotImplementedError

    def note(self, judged: Archive) -> str:
        return ""


class LastNear(OneSetting):
    """The last epoch reaches the paper's number minus the tolerance."""

    test: Literal["last_near"]
    column: Column
    paper: float
    tolerance: float

    def values(self, epochs):
        return per_run(epochs, self.column, "last", 0.0)

    def name(self):
        return f"last {self.column}, paper {self.paper}"

    def bounds(self):
        return self.paper - self.tolerance, None


class EpochsUntil(OneSetting):
    """The number of epochs until a value is reached; if it never is, one more than were trained."""

    test: Literal["epochs_until"]
    column: Column
    value: Share
    between: Bounds
    form: ClassVar[str] = ".2f"
    step: ClassVar[float] = 1.0

    def values(self, epochs):
        return first_epoch(epochs, self.column, self.value)

    def name(self):
        return f"epochs until {self.column} {self.value}"

    def bounds(self):
        return self.between


class Amplified(OneSetting):
    """A run's smallest ratio of the powered gradient's 1-norm to that of the gradient in the same epoch.

    Epochs whose gradient is exactly 0 are left out: there is nothing to amplify.
    """

    test: Literal["amplified"]
    factor: float
    form: ClassVar[str] = ".3g"

    def values(self, epochs):
        alive = epochs[(epochs["grad_norm1"] > 0) & epochs["powered_norm1"].notna()]
        return (alive["powered_norm1"] / alive["grad_norm1"]).groupby(alive["run"]).min()

    def name(self):
        return "smallest ratio of a run"

    def bounds(self):
        return self.factor, None

    def note(self, judged):
        dead = judged.epochs[judged.epochs["grad_norm1"] == 0].groupby("run")["epoch"].min()
        alive = judged.epochs[judged.epochs["grad_norm1"] > 0]
        text = f"; {(alive['powered_norm1'] / alive['grad_norm1']).min():.3g} or more in every epoch"
        gone = f" in which the gradient is not 0; it is exactly 0 from epoch {dead.min()} on in {len(dead)} runs"
        return text + (gone if len(dead) else "")


class NeverAbove(Claim):
    """The value does not exceed the threshold in any epoch of any run."""

    test: Literal["never_above"]
    settings: Settings
    column: Column
    threshold: float

    def judged(self, archive):
        return self.settings.chosen(archive.runs)

    def judge(self, archive):
        judged = archive.only(self.judged(archive))
        if judged.epochs.empty:
            raise NoVerdict("no run")
        best = per_run(judged.epochs, self.column, "best", 0.0)
        text = f"best {self.column} {best.max():.4f} over {len(best)} seeds (threshold {self.threshold})"
        if (best > self.threshold).any():
            return Finding(NOT_REPRODUCED, text)
        text += f"; {excluded(len(best))}"
        if len(best) < LEAST_SEEDS:
            return Finding(INCONCLUSIVE, f"{text}; {seeds_missing(judged)}")
        return Finding(REPRODUCED, text)


def excluded(seeds: int) -> str:
    """In words, which success rate cannot be excluded when all of these seeds failed."""
    return f"of one setting, up to {share_limit(0, seeds):.0%} of seeds that do better cannot be excluded"


class Trained(Claim):
    """Does `some` setting of the grid train, or `none`, judged by the best train accuracy of its runs?

    One run that reaches the threshold shows that it can train; to show that none can takes all planned settings and
    enough seeds. below: only gammas below this. every_seed: a setting counts as trained only if all of its runs did, at
    least so many (`seeds`).
    """

    test: Literal["trained"]
    settings: Settings
    below: float | None = None
    threshold: Share
    expect: Literal["some", "none"]
    every_seed: bool = False
    seeds: Annotated[int, Field(ge=LEAST_SEEDS)] = LEAST_SEEDS

    def judged(self, archive):
        mask = self.settings.chosen(archive.runs)
        return mask if self.below is None else mask & (archive.runs["gamma"] < self.below)

    def judge(self, archive):
        judged = archive.only(self.judged(archive))
        if judged.epochs.empty:
            raise NoVerdict("no run")
        outcome = outcomes(judged, self.threshold)
        good = outcome[outcome["every" if self.every_seed else "some"]]
        sure = good[good["seeds"] >= (self.seeds if self.every_seed else 1)]
        few = len(good) - len(sure) if len(sure) else 0  # trained so far, with too few seeds
        good = sure if len(sure) else good
        missing, seeds = judged.runs["setting"].nunique() - len(outcome), int(outcome["seeds"].min())
        most = int(outcome["seeds"].max())
        counted = f"{seeds} seed{'s' if seeds != 1 else ''}" if seeds == most else f"{seeds} to {most} seeds"
        text = f"{len(good)} of {len(outcome)} setting{'s' * (len(outcome) != 1)} trained, {counted}"
        rest = f"; {few} more in fewer than {self.seeds} seeds" * bool(few) + f"; {missing} not run" * bool(missing)
        yes, no = (REPRODUCED, NOT_REPRODUCED) if self.expect == "some" else (NOT_REPRODUCED, REPRODUCED)
        if len(good):
            text += f": {', '.join(named(good, len(outcome['label'].unique()) > 1, good['seeds'].max() > 1))}"
            if len(sure):
                return Finding(yes, text + rest)
            return Finding(INCONCLUSIVE, f"{text}, of at least {self.seeds}{rest}; {seeds_missing(judged, self.seeds)}")
        if missing:  # one of them might train
            return Finding(INCONCLUSIVE, f"{text}{rest}; {seeds_missing(judged)}")
        if seeds < LEAST_SEEDS:
            return Finding(INCONCLUSIVE, f"{text}, of at least {LEAST_SEEDS}; {seeds_missing(judged)}")
        return Finding(no, f"{text}; {excluded(seeds)}")


def outcomes(judged: Archive, threshold: float) -> pd.DataFrame:
    """A row for each setting that was run: label, entry, initial_lr, gamma, seeds, how many trained, some, every."""
    best = per_run(judged.epochs, "train_acc", "best", 0.0)
    runs = judged.runs[judged.runs["run"].isin(best.index)]
    runs = runs.assign(good=(best >= threshold).reindex(runs["run"]).to_numpy())
    found = runs.groupby("setting", sort=False).agg(
        label=("label", "first"), entry=("entry", "first"), initial_lr=("initial_lr", "first"),
        gamma=("gamma", "first"), depth=("depth", "first"), seeds=("run", "nunique"), good=("good", "sum"),
    )  # fmt: skip
    return found.assign(some=found["good"] > 0, every=found["good"] == found["seeds"])


def named(settings: pd.DataFrame, labels: bool, shares: bool) -> list[str]:
    """Each setting in words, with how many of its seeds trained."""

    def words(row: Any) -> str:
        entry = f"{row.entry} " if labels or row.entry != row.label else ""
        gamma = "" if pd.isna(row.gamma) else f" γ {row.gamma:g}"
        return f"{entry}lr {row.initial_lr:g}{gamma}" + (f" ({row.good} of {row.seeds})" if shares else "")

    return [words(row) for row in settings.itertuples()]


class Deeper(Claim):
    """PowerSGD with some gamma below 1 trains a depth at which plain SGD (gamma 1) trains with none of its settings.

    One run shows that a depth can be trained; to show that SGD cannot takes all of its settings and enough seeds.
    """

    test: Literal["deeper"]
    settings: Settings
    threshold: Share

    def judged(self, archive):
        return self.settings.chosen(archive.runs)

    def judge(self, archive):
        judged = archive.only(self.judged(archive))
        if judged.epochs.empty:
            raise NoVerdict("no run")
        sgd = judged.only(judged.runs["gamma"] == 1)
        ours, theirs = (outcomes(part, self.threshold) for part in (judged.only(judged.runs["gamma"] < 1), sgd))
        depths = [(found.loc[found["some"], "depth"].max() if found["some"].any() else 0) for found in (ours, theirs)]
        text = " and ".join(f"{name} trains " + (f"{depth} layers" if depth else "none of the depths")
                            for name, depth in zip(("PowerSGD", "SGD"), depths, strict=True))  # fmt: skip
        if depths[0] <= depths[1]:
            complete = set(judged.runs["setting"]) == {*ours.index, *theirs.index}
            return Finding(NOT_REPRODUCED if depths[1] and complete else INCONCLUSIVE, text)
        there = sgd.only(sgd.runs["depth"] == depths[0])
        tried = theirs.loc[theirs["depth"] == depths[0], "seeds"]
        seeds = int(tried.min()) if 0 < len(tried) == there.runs["setting"].nunique() else 0
        text += f"; SGD at {depths[0]} layers with {len(tried)} settings, {seeds} seed{'s' * (seeds != 1)} each"
        if seeds < LEAST_SEEDS:
            return Finding(INCONCLUSIVE, f"{text}, of at least {LEAST_SEEDS}; {seeds_missing(there)}")
        return Finding(REPRODUCED, f"{text}; {excluded(seeds)}")


Kind = LastNear | EpochsUntil | Amplified | NeverAbove | Trained | Deeper
