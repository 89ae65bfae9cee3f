"""Claims about entries of a grid, at the settings chosen for them (figures 1 and 7).

of, minus: labels of entries. Each label in `of` is a part of the claim, compared with the best of those in `minus`.
"""

from collections.abc import Hashable
from operator import itemgetter
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from analysis import budget
from analysis.statistics import Contrast, Largest, Least, Quantity, expected_best

from .parts import Part, Sample, by_setting, per_run, sentence
from .schema import (
    Archive,
    Bounds,
    Claim,
    Column,
    Finding,
    Names,
    NoVerdict,
    Settings,
    Share,
    chooses,
    grid_labels,
    paper_labels,
)

Epochs = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]


class Entries(Claim):
    of: Names

    @property
    def labels(self) -> Names:
        return self.of

    def needs(self):
        return [Settings(label=label) for label in self.labels]

    @model_validator(mode="after")
    def _labels_exist(self):
        for experiment in self.experiment:
            unknown = {*self.labels} - grid_labels(experiment)
            if unknown:
                raise ValueError(f"{experiment} has no entry {', '.join(sorted(unknown))}")
        return self

    def judged(self, archive: Archive) -> pd.Series:
        """Includes the runs that selected, since their results largely predict those of the reported runs."""
        return archive.runs["label"].isin(self.labels)

    def judge(self, archive: Archive) -> Finding:
        return sentence(self.parts(archive), archive.only(self.judged(archive)))

    def parts(self, archive: Archive) -> list[Part]:
        raise NotImplementedError


class Versus(Entries):
    minus: Names

    @property
    def labels(self) -> Names:
        return *self.of, *self.minus


def stage(archive: Archive) -> str | None:
    """The stage of the runs that are compared; None: the experiment chooses no settings, so all are."""
    return "report" if chooses(archive.experiment) else None


def reported(archive: Archive, named: Names = ()) -> Archive:
    """The runs of the chosen settings, or all runs if the experiment chooses none. Raises NoVerdict if there are none.

    Only of the paper's entries and those named, since all of them may share a variance: an optimizer that someone adds
    must not change a claim about others.
    """
    chosen = archive.runs["stage"].eq("report") | (stage(archive) is None)
    found = archive.only(chosen & archive.runs["label"].isin({*paper_labels(archive.experiment), *named}))
    if found.epochs.empty:
        raise NoVerdict("no run")
    return found


def less_best(sample: Sample, one: str, others: tuple[str, ...], larger_is_better: bool = True) -> Quantity:
    """One entry minus the best of the others, whichever that is."""
    found = tuple(Contrast(sample.at(one) | sample.at(other, -1)) for other in others)
    if len(found) == 1:
        return found[0]
    return Least(found) if larger_is_better else Largest(found)


def versus(sample: Sample, one: str, others: tuple[str, ...], larger_is_better: bool = True) -> str:
    """The name of that comparison, with the other entry that has the best mean."""
    known = [other for other in others if other in sample.values]
    if len(others) == 1 or not known:
        return f"{one} - {', '.join(others)}"
    best = (max if larger_is_better else min)(known, key=sample.mean)
    return f"{one} - {best} (best of {len(others)})"


class Difference(Versus):
    """The difference of a value per run. at: best, lowest or last epoch, or the mean over these epochs."""

    test: Literal["difference"]
    column: Column
    at: Literal["best", "lowest", "last"] | Epochs
    between: Bounds
    guess: float = 0.0  # the value of a run that diverged

    @model_validator(mode="after")
    def _a_loss_says_what_diverged(self):
        if self.column == "train_loss" and not self.guess:
            raise ValueError("a loss needs `guess`, the loss of guessing, for runs that diverged")
        return self

    def parts(self, archive):
        found = reported(archive, self.labels)
        sample = Sample(by_setting(found.runs, per_run(found.epochs, self.column, self.at, self.guess), ["label"]))
        larger = self.column != "train_loss"
        return [Part(versus(sample, one, self.minus, larger),
                     lambda one=one: less_best(sample, one, self.minus, larger), sample, self.between,
                     stage=stage(archive)) for one in self.of]  # fmt: skip


class Overtaken(Versus):
    """Each of `of` is ahead of `minus` before the learning rate first drops, and behind after it.

    The smaller of the two differences must be above 0. Only values after the drop share a variance, since each run has
    one value of either kind.
    """

    test: Literal["overtaken"]
    column: Column

    def parts(self, archive):
        found = reported(archive, self.labels)
        values, rates = (found.epochs.pivot(index="run", columns="epoch", values=name) for name in (self.column, "lr"))
        first, *later = sorted(found.epochs["epoch"].unique().tolist())
        drops = [epoch for epoch in later if (rates[epoch] < rates[first]).any()]
        if not drops:
            raise NoVerdict("no learning rate drops")
        before, after = (by_setting(found.runs, values[epoch].fillna(0.0), ["label"]) for epoch in
                         (drops[0] - 1, drops[0]))  # fmt: skip
        ahead: dict[Hashable, Any] = {("before", label): part for label, part in before.items()}
        both = ahead | {("after", label): part for label, part in after.items()}
        sample = Sample(both, {key: key not in ahead for key in both})
        (other,) = self.minus

        def least(one: str) -> Quantity:
            ahead = Contrast(sample.at(("before", one)) | sample.at(("before", other), -1))
            return Least((ahead, Contrast(sample.at(("after", other)) | sample.at(("after", one), -1))))

        return [Part(f"{one}, the least of its lead in epoch {drops[0] - 1} and {other}'s in {drops[0]}",
                     lambda one=one: least(one), sample, (0.0, None), trained=itemgetter(1), stage=stage(archive))
                for one in self.of]  # fmt: skip


class EpochsTo(Versus):
    """The difference in epochs until an accuracy: `reach` times the best of the other entry's mean curve.

    A run that never reaches it counts as one epoch more than the longest run has.
    """

    test: Literal["epochs_to"]
    column: Column
    reach: Share
    between: Bounds

    def parts(self, archive):
        found = reported(archive, self.labels)
        tops = by_setting(found.runs, per_run(found.epochs, self.column, "best", 0.0), ["label"])
        parts = []
        for one in self.of:
            for other in self.minus:
                goal = self.reach * tops[other].mean() if other in tops else np.inf
                sample = Sample(by_setting(found.runs, first_epoch(found.epochs, self.column, goal), ["label"]), step=1)
                name = f"{one} - {other}, epochs to {self.reach:.0%} of {other}'s best"
                parts.append(Part(name, lambda one=one, other=other, sample=sample: less_best(sample, one, (other,)),
                                  sample, self.between, "+.2f", stage=stage(archive)))  # fmt: skip
        return parts


def first_epoch(epochs: pd.DataFrame, column: str, goal: float) -> pd.Series:
    """For each run the first epoch that reaches the goal; one more than the longest run has if none does."""
    reached = epochs[epochs[column] >= goal].groupby("run")["epoch"].min()
    return reached.reindex(epochs["run"].unique(), fill_value=epochs["epoch"].max() + 1).astype(float)


class EqualBudget(Versus):
    """The difference of the expected best test accuracy of equally many settings, one value per selecting seed.

    Their number is that of the smallest grid; the expectation is over all choices of so many settings from a grid.
    """

    test: Literal["equal_budget"]
    between: Bounds
    plannable = False

    def parts(self, archive):
        found = archive.epochs[archive.epochs["stage"] == "grid"]
        tried = [budget.scores(rows) for _, rows in found.groupby("seed")]
        parts = []
        for one in self.of:
            compared = [scores for scores in tried if {one, *self.minus} <= set(scores)]
            settings = min((len(scores[name]) for scores in compared for name in (one, *self.minus)), default=0)
            sample = Sample({name: [expected_best(scores[name], settings) for scores in compared]
                             for name in (one, *self.minus) if compared})  # fmt: skip
            name = f"{versus(sample, one, self.minus)}, best of {settings} settings, seeds that selected"
            parts.append(Part(name, lambda one=one, sample=sample: less_best(sample, one, self.minus), sample,
                              self.between, stage="grid"))  # fmt: skip
        return parts


class Gain(Entries):
    """What each entry gains between two epochs, judged by its own seeds."""

    test: Literal["gain"]
    column: Column
    epochs: tuple[int, int]
    between: Bounds

    def parts(self, archive):
        found = reported(archive, self.labels)
        first, last = (per_run(found.epochs, self.column, [epoch], 0.0) for epoch in self.epochs)
        gains = by_setting(found.runs, last - first, ["label"])
        sample = Sample(gains, dict.fromkeys(gains, False))
        return [Part(f"{one} from epoch {self.epochs[0]} to {self.epochs[1]}",
                     lambda one=one: Contrast(sample.at(one)), sample, self.between, stage=stage(archive))
                for one in self.of]  # fmt: skip


Kind = Difference | Overtaken | EpochsTo | EqualBudget | Gain
