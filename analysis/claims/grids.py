"""Claims about a grid of gamma and lr (figures 5 and 6), from the best value of each run.

column, best: the value, and whether the largest or the lowest counts. guess: the value that guessing gives; a run that
never did better has it, and its setting does not share the others' variance. A grid with a missing cell gives no
verdict, since that cell might be the best.
"""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from analysis.statistics import Best, Contrast, Count, Difference, Least, Quantity, against_best

from .parts import Part, Sample, by_setting, known, per_run, sentence
from .schema import Archive, Bounds, Claim, Column, Finding, NoVerdict, Settings

KEYS = ["optimizer", "initial_lr", "gamma"]
POWERSGD = Settings(optimizer="powersgd")
Cell = tuple[float, float]  # lr, gamma
Rates = Annotated[tuple[float, ...], Field(min_length=2)]


class Grid(Claim):
    settings: Settings = POWERSGD
    column: Column
    best: Literal["max", "min"]
    guess: float

    @property
    def sign(self) -> int:
        return 1 if self.best == "max" else -1

    def chosen(self) -> list[Settings]:
        """The runs that the claim is about."""
        return [self.settings]

    def needs(self):
        return self.chosen()

    def judged(self, archive: Archive) -> pd.Series:
        return reduce(or_, (part.chosen(archive.runs) for part in self.chosen()))

    def judge(self, archive: Archive) -> Finding:
        judged = archive.only(self.judged(archive))
        missing = set(judged.runs["setting"]) - set(judged.ended()["setting"])
        if judged.ended().empty or missing:
            raise NoVerdict("no run" if judged.ended().empty else f"{len(missing)} settings are missing")
        return sentence([self.part(self.sample(archive), archive)], judged)

    def sample(self, archive: Archive) -> Sample:
        """The best value of each run, a loss with a minus sign; all settings of the network may share a variance."""
        models = archive.only(self.judged(archive)).runs["model"]
        network = archive.only(archive.runs["model"].isin(models))
        if self.best == "max":
            values = per_run(network.epochs, self.column, "best", self.guess).clip(lower=self.guess)
        else:
            values = -per_run(network.epochs, self.column, "lowest", self.guess).clip(upper=self.guess)
        found = by_setting(network.runs, values, KEYS)
        return Sample(found, {key: bool((part > self.sign * self.guess).all()) for key, part in found.items()})

    def part(self, sample: Sample, archive: Archive) -> Part:
        raise NotImplementedError

    def keys(self, archive: Archive, settings: Settings) -> list[tuple]:
        """The planned settings as keys of the sample, in the plan's order."""
        rows = archive.runs[settings.chosen(archive.runs)][KEYS].drop_duplicates()
        return [known(row) for row in rows.itertuples(index=False)]


class Cells(Grid):
    """A signed sum of cells. terms: [[sign, lr, gamma], ...]."""

    test: Literal["contrast"]
    terms: Annotated[tuple[tuple[Literal[1, -1], float, float], ...], Field(min_length=1)]
    between: Bounds

    def chosen(self):
        return [self.settings | Settings(initial_lr=lr, gamma=gamma) for _, lr, gamma in self.terms]

    def part(self, sample, archive):
        def contrast() -> Quantity:
            weights = {}
            for sign, lr, gamma in self.terms:
                weights |= sample.at(("powersgd", lr, gamma), sign * self.sign)
            return Contrast(weights)

        return Part("", contrast, sample, self.between)


class BestCells(Grid):
    """The best of some settings minus the best of others.

    than: which others, in addition to what `settings` says. below: only gammas below this.
    """

    test: Literal["best_cells"]
    than: Settings
    below: float | None = None
    between: Bounds

    def chosen(self):
        return [self.settings, self.settings | self.than]

    def part(self, sample, archive):
        theirs = self.keys(archive, self.settings | self.than)
        ours = [key for key in self.keys(archive, self.settings) if key not in theirs
                and (self.below is None or key[2] < self.below)]  # fmt: skip
        top, other = (max((key for key in keys if key in sample.values), key=sample.mean) for keys in (ours, theirs))
        name = f"{spelled(top)} (best of {len(ours)}) - {spelled(other)} (best of {len(theirs)})"
        return Part(name, lambda: against_best([sample.at(key) for key in ours], [sample.at(key) for key in theirs]),
                    sample, self.between)  # fmt: skip


class Matched(Grid):
    """The difference from other settings at the same gamma and lr, as the mean over all that both have.

    than: the others, in addition to what `settings` says.
    """

    test: Literal["matched"]
    than: Settings
    between: Bounds

    def chosen(self):
        return [self.settings, self.settings | self.than]

    def part(self, sample, archive):
        ours, theirs = ({key[1:]: key for key in self.keys(archive, one)} for one in self.chosen())
        pairs = {cell: (key, theirs[cell]) for cell, key in ours.items() if cell in theirs}
        if not pairs:
            raise NoVerdict("the plan has no gamma and lr that both have")
        each = {cell: self.sign * (sample.mean(one) - sample.mean(other)) for cell, (one, other) in pairs.items()}
        weight = self.sign / len(pairs)

        def mean() -> Quantity:
            weights = {}
            for one, other in pairs.values():
                weights |= sample.at(one, weight) | sample.at(other, -weight)
            return Contrast(weights)

        name = ", ".join(f"lr {lr:g} γ {gamma:g} {value:+.4f}" for (lr, gamma), value in each.items())
        return Part(f"{name}; the mean", mean, sample, self.between)


class Plane(Grid):
    """A claim about PowerSGD's cells at these learning rates, with all planned gammas."""

    lr: Rates
    form: ClassVar[str] = "+.4f"

    def judged(self, archive):
        return super().judged(archive) & archive.runs["initial_lr"].isin(self.lr)

    def part(self, sample, archive):
        judged = archive.only(self.judged(archive))
        cells = [(lr, gamma) for _, lr, gamma in self.keys(judged, self.settings)]
        gammas = sorted({gamma for _, gamma in cells})
        if {(lr, gamma) for lr in self.lr for gamma in gammas} != set(cells) or not self.needed() <= set(gammas):
            raise NoVerdict("the plan lacks cells that it needs")

        def quantity() -> Quantity:
            return self.of({cell: next(iter(sample.at(("powersgd", *cell)))) for cell in cells}, gammas)

        means = {cell: sample.mean(("powersgd", *cell)) for cell in cells}
        return Part(self.name(means, gammas), quantity, sample, self.bounds(), self.form)

    def needed(self) -> set[float]:
        """Gammas that the claim cannot do without."""
        return {1.0}

    def of(self, place: dict[Cell, int], gammas: Sequence[float]) -> Quantity:
        """The quantity, from the index of each cell."""
        raise NotImplementedError

    def name(self, means: dict[Cell, float], gammas: list[float]) -> str:
        raise NotImplementedError

    def bounds(self) -> Bounds:
        raise NotImplementedError


class InRange(Plane):
    gamma: tuple[float, float]

    @model_validator(mode="after")
    def _a_range(self):
        if not 0 <= self.gamma[0] < self.gamma[1] <= 1:
            raise ValueError(f"gamma: {list(self.gamma)} is no range from 0 to 1")
        return self

    def needed(self):
        return {1.0, *self.gamma}

    def inside(self, gammas: Sequence[float]) -> list[float]:
        return [gamma for gamma in gammas if self.gamma[0] <= gamma <= self.gamma[1]]


class WithoutLoss(InRange):
    """With its best lr, every gamma in the range is within `loss` of the best cell; the worst gamma decides."""

    test: Literal["without_loss"]
    loss: Annotated[float, Field(gt=0)]

    def of(self, place, gammas):
        best = [{other: 1.0} for other in place.values()]
        return Least(tuple(against_best([{place[lr, gamma]: 1.0} for lr in self.lr], best)
                           for gamma in self.inside(gammas)))  # fmt: skip

    def name(self, means, gammas):
        top = max(means.values())
        worst = {gamma: max(means[lr, gamma] for lr in self.lr) - top for gamma in self.inside(gammas)}
        each = ", ".join(f"γ {gamma:g} {value:+.4f}" for gamma, value in worst.items())
        return f"against the best cell {each}; the worst of them"

    def bounds(self):
        return -self.loss, None


class Robust(InRange):
    """The mean over the learning rates and a range of gamma: what an untuned learning rate gives on average.

    than=sgd: it is above the mean of gamma 1. than=others: it is above that of every other range of the same width, so
    that only the best of all such ranges can pass.
    """

    test: Literal["robust"]
    than: Literal["sgd", "others"]

    def of(self, place, gammas):
        ours = self._mean(place, self.inside(gammas))
        return against_best([ours], [self._mean(place, window) for window in self.windows(gammas)])

    def windows(self, gammas: Sequence[float]) -> list[list[float]]:
        """The gammas of each range that this one is compared with."""
        if self.than == "sgd":
            return [[1.0]]
        width = self.gamma[1] - self.gamma[0]
        starts = [gamma for gamma in gammas if gamma + width <= 1 + 1e-9 and gamma != self.gamma[0]]
        return [[gamma for gamma in gammas if start <= gamma <= start + width + 1e-9] for start in starts]

    def _mean(self, place: dict[Cell, int], gammas: Sequence[float]) -> dict[int, float]:
        share = 1 / (len(gammas) * len(self.lr))
        return {place[lr, gamma]: share for lr in self.lr for gamma in gammas}

    def name(self, means, gammas):
        of = [(f"{chosen[0]:g} to {chosen[-1]:g}", np.mean([means[lr, gamma] for lr in self.lr for gamma in chosen]))
              for chosen in (self.inside(gammas), *self.windows(gammas))]  # fmt: skip
        (_, ours), *others = of
        best = max(others, key=lambda one: one[1])
        against = "γ 1" if self.than == "sgd" else f"γ {best[0]} (best of {len(others)} other ranges as wide)"
        return f"mean over lr {ours:+.4f}, less that of {against}"

    def bounds(self):
        return 0.0, None


class GoodDefault(Plane):
    """At `at_least` learning rates or more, this gamma is within `loss` of the best gamma there."""

    test: Literal["good_default"]
    gamma: float
    loss: Annotated[float, Field(gt=0)]
    at_least: Annotated[int, Field(ge=1)]
    form: ClassVar[str] = "g"

    def needed(self):
        return {1.0, self.gamma}

    def of(self, place, gammas):
        return Count(tuple(against_best([{place[lr, self.gamma]: 1.0}], [{place[lr, gamma]: 1.0} for gamma in gammas])
                           for lr in self.lr), -self.loss)  # fmt: skip

    def name(self, means, gammas):
        each = [f"lr {lr:g} {means[lr, self.gamma] - max(means[lr, gamma] for gamma in gammas):+.4f}" for lr in self.lr]
        return f"against each lr's best {', '.join(each)}; within {self.loss:g} of it at"

    def bounds(self):
        return self.at_least - 0.5, None


class Wider(Plane):
    """More gammas below 1 beat gamma 1 by more than the margin at the last lr than at the first."""

    test: Literal["wider"]
    margin: Annotated[float, Field(ge=0)]
    form: ClassVar[str] = "+g"

    def of(self, place, gammas):
        first, last = (self._useful(place, gammas, lr) for lr in (self.lr[0], self.lr[-1]))
        return Difference(last, first)

    def _useful(self, place: dict[Cell, int], gammas: Sequence[float], lr: float) -> Count:
        return Count(tuple(Contrast({place[lr, gamma]: 1.0, place[lr, 1.0]: -1.0}) for gamma in gammas if gamma < 1),
                     self.margin)  # fmt: skip

    def name(self, means, gammas):
        each = [f"{sum(means[lr, gamma] - means[lr, 1.0] > self.margin for gamma in gammas)} at lr {lr:g}"
                for lr in self.lr]  # fmt: skip
        return f"useful gammas {', '.join(each)}; last less first"

    def bounds(self):
        return 0.0, None


class BestFalls(Plane):
    """The best gamma is larger at the first lr than at the last, which is the smallest."""

    test: Literal["best_falls"]
    form: ClassVar[str] = "+g"

    def of(self, place, gammas):
        first, last = (Best({place[lr, gamma]: gamma for gamma in gammas}) for lr in (self.lr[0], self.lr[-1]))
        return Difference(first, last)

    def name(self, means, gammas):
        each = [f"{max(gammas, key=lambda gamma: means[lr, gamma]):g} at lr {lr:g}" for lr in self.lr]
        return f"best γ {', '.join(each)}; first less last"

    def bounds(self):
        return 0.0, None


def spelled(key: tuple) -> str:
    optimizer, lr, gamma = key
    name = "" if optimizer == "powersgd" else f"{optimizer} "
    return f"{name}lr {lr:g}" + ("" if gamma is None else f" γ {gamma:g}")


Kind = Cells | BestCells | Matched | WithoutLoss | Robust | GoodDefault | Wider | BestFalls
