"""How often each rule for verdicts is wrong, and how often it finds a true effect. A simulation; nothing is trained.

    python -m analysis.simulate [--results results]

Draws runs from normal distributions with the spread of the archive's best test accuracies, judges them with the code
that judges the archive, and counts the verdicts. Writes verdict-rules.md.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.claims.grids import BestFalls, GoodDefault, Robust, Wider, WithoutLoss
from analysis.looks import LOOKS, pocock
from analysis.records import RESULTS
from analysis.statistics import LEVEL, Contrast, Estimates, Least, Quantity, against_best
from analysis.tables import markdown
from analysis.verdicts import Bounds, decide
from runs.files import write_atomically

SD = 0.011  # of the best test accuracy over seeds, at the laptop tier
FIGURE1 = (0.0176, 0.0165, 0.0119, 0.0057, 0.0045, 0.0036)  # figure 1(a, b)'s six, for spreads that are not alike
EFFECTS = (-0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05)
SEEDS = (3, 5)
TIMES = 4000
LRS, GAMMAS = (1.0, 0.1, 0.01, 0.001), (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
PLACE = {(lr, gamma): place for place, (lr, gamma) in enumerate((lr, gamma) for lr in LRS for gamma in GAMMAS)}
RULES_TEXT = """\
# The rules of the verdicts, simulated

Written by `python -m analysis.simulate`; a simulation, not a training run. {times} experiments for each number, with
the standard deviation {sd} over seeds of the archive's best test accuracies, judged by the code that judges the
archive. An effect is the distance of the true value from the rule's threshold, in the direction of the claim; of an
equivalence, from its middle. At effect 0 every verdict is chance (of an equivalence: at its margin, 2 points). Each
cell: % reproduced / % not reproduced.

{intervals}
With the sign of the effect turned the two numbers change places, but for chance, wherever a rule is about one contrast.
Where it speaks of the best or the worst of several, its bounds allow for the choice among them, on one side more than
on the other: there the power differs, but each side is wrong in at most 2.5 % of cases. The rules on whole grids seldom
decide effects below 5 points.

## Spreads that are not alike

Two of six settings at no effect, with figure 1(a, b)'s own standard deviations ({figure1})
or worse. Bartlett's test often misses them with three seeds; a setting that spreads more than the pool (F test, 10 %)
then keeps its own variance. What is left above 5 % is the price of pooling. % of cases with a verdict:

{unlike}
## Several looks

At a tier whose seeds are added until a claim is decided (`sweep.py decide=hours`, looks after {looks} seeds) every
interval has the level {pocock:.2%}, of Pocock's boundary. What any of the looks decides is final. One setting against
another, of six; % reproduced / % not reproduced by the last look, and the seeds that it took in the mean:

{several}
## Rules that count runs

*None trains* is reproduced if not one run of any setting reaches the threshold, *some trains* if one does, *in every
seed* if all runs of a setting do. % reproduced, computed, if each run of one setting trains with this probability and
those of the other settings never:

{counts}"""


@dataclass(frozen=True)
class Rule:
    """quantities: the parts of a claim. means(effect): the settings' true means at which each part has that effect."""

    name: str
    quantities: tuple[Quantity, ...]
    between: Bounds
    means: Callable[[float], np.ndarray]
    most: float = np.inf  # the largest effect that there can be
    sds: tuple[float, ...] = ()  # of the first settings; the others have SD


def rules() -> list[Rule]:
    """Every kind of rule that claims.yaml uses."""
    six = (Contrast({0: 1.0, 1: -1.0}),)
    both = (Contrast({0: 1.0, 2: -1.0}), Contrast({1: 1.0, 2: -1.0}))
    drop = (Least((Contrast({0: 1.0, 1: -1.0}), Contrast({3: 1.0, 2: -1.0}))),)
    best_of = (against_best([{0: 1.0}], [{1: 1.0}, {2: 1.0}, {3: 1.0}]),)
    return [
        Rule("one setting against another, of six", six, (0, None), raised(6, [0])),
        Rule("one setting against a number", (Contrast({0: 1.0}),), (0, None), raised(1, [0])),
        Rule("a sentence on two, against a third", both, (0, None), raised(6, [0, 1])),
        Rule("not more than 1.5 points below", six, (-0.015, None), raised(6, [0], -0.015)),
        Rule("equivalent within 2 points", six, (-0.02, 0.02), raised(6, [0])),
        Rule("ahead before and behind after a drop", drop, (0, None), raised(12, [0, 3])),
        Rule("against the best of three", best_of, (0, None), raised(6, [0])),
        *grid_rules(),
    ]


def grid_rules() -> list[Rule]:
    """The rules about figures 5 and 6, on a grid where each gamma works at one learning rate, and none at lr 1.

    All other cells are ten points lower, so that nine cells may be the best.
    """
    lossless = WithoutLoss.model_construct(lr=LRS, gamma=(0.5, 1.0), loss=0.02).of(PLACE, GAMMAS)
    sgd, others = (Robust.model_construct(lr=LRS, gamma=(0.4, 0.8), than=than).of(PLACE, GAMMAS)
                   for than in ("sgd", "others"))  # fmt: skip
    default = GoodDefault.model_construct(lr=LRS, gamma=0.8, loss=0.02, at_least=3).of(PLACE, GAMMAS)
    wider = Wider.model_construct(lr=LRS, margin=0.02).of(PLACE, GAMMAS)
    falls = BestFalls.model_construct(lr=LRS).of(PLACE, GAMMAS)
    of_grid = against_best([{place: 1.0} for (_, gamma), place in PLACE.items() if gamma < 1],
                           [{PLACE[lr, 1.0]: 1.0} for lr in LRS])  # fmt: skip
    suited = [PLACE[LRS[1 + index % 3], gamma] for index, gamma in enumerate(GAMMAS)]
    best = np.full(len(PLACE), -0.1)
    best[suited] = 0.0
    row = np.full(len(PLACE), -0.1)  # at each lr gamma 0.8 and another are the best
    row[[PLACE[lr, gamma] for lr in LRS for gamma in (0.7, 0.8)]] = 0.0
    inside = [PLACE[lr, gamma] for lr in LRS for gamma in GAMMAS if 0.4 <= gamma <= 0.8]
    four = {PLACE[0.1, 0.6]: -1.0, PLACE[0.01, 0.6]: 1.0, PLACE[0.1, 1.0]: 1.0, PLACE[0.01, 1.0]: -1.0}
    return [
        Rule("the best of 32 cells against the best of 4", (of_grid,), (0, None),
             raised(best, suited[:-1])),
        Rule("four cells with signs", (Contrast(four),), (0, None), raised(0 * best, [PLACE[0.01, 0.6]])),
        Rule("every gamma of a range within 2 points of the best", (lossless,), (-0.02, None),
             raised(best, suited[-1:], -0.02), most=0.02),
        Rule("a range's mean over lr against gamma 1", (sgd,), (0, None), raised(0 * best, inside)),
        Rule("a range's mean over lr against every other's", (others,), (0, None), solved(others, 0 * best, inside)),
        Rule("within 2 points of each lr's best at three of four", (default,), (2.5, None),
             raised(row, [PLACE[lr, 0.8] for lr in LRS], -0.02), most=0.02),
        Rule("more gammas 2 points above SGD at the last lr", (wider,), (0, None),
             raised(0 * best, [PLACE[LRS[-1], gamma] for gamma in GAMMAS if gamma < 1], 0.02)),
        Rule("the best gamma is smaller at the last lr", (falls,), (0, None), slanted),
    ]  # fmt: skip


def raised(others: int | np.ndarray, places: list[int], start: float = 0.0) -> Callable[[float], np.ndarray]:
    """Returns means(effect): `others` (or so many zeros), with the effect added at these places."""

    def means(effect: float) -> np.ndarray:
        found = np.zeros(others) if isinstance(others, int) else others.copy()
        found[places] += start + effect
        return found

    return means


def solved(quantity: Quantity, others: np.ndarray, places: list[int]) -> Callable[[float], np.ndarray]:
    """As `raised`, but adds as much as gives the quantity itself the effect (it is piecewise linear in that)."""

    def means(effect: float) -> np.ndarray:
        unit = raised(others, places)(np.sign(effect))
        scale = abs(float(quantity.value(exact(unit)))) if effect else 1.0
        return unit * abs(effect) / scale

    return means


def slanted(effect: float) -> np.ndarray:
    """Gamma 1 is best at the first lr and gamma 0 at the last, by the effect; the reverse for a negative effect."""
    found = np.zeros(len(PLACE))
    ends = [(1.0, 1.0), (0.001, 0.0)] if effect > 0 else [(1.0, 0.0), (0.001, 1.0)]
    found[[PLACE[cell] for cell in ends]] = abs(effect)
    return found


def exact(means: np.ndarray) -> Estimates:
    """Estimates with these means and no spread."""
    return Estimates.of(list(np.stack([means, means], axis=-1)))


def rates(rule: Rule, effect: float, seeds: int, times: int = TIMES) -> tuple[float, float]:
    """The fractions of experiments in which the claim is reproduced, and not reproduced."""
    means = rule.means(effect)
    sds = np.full(len(means), SD)
    sds[: len(rule.sds)] = rule.sds
    random = np.random.default_rng([seeds, round(1e4 * abs(effect)), effect < 0])
    runs = means[:, None] + sds[:, None] * random.standard_normal((times, len(means), seeds))
    estimates = Estimates.of(list(np.moveaxis(runs, 1, 0)))
    found = [decide(*quantity.interval(estimates), rule.between) for quantity in rule.quantities]
    return float(np.all(np.equal(found, 1), axis=0).mean()), float(np.all(np.equal(found, -1), axis=0).mean())


def looked(
    effect: float, level: float, between: Bounds = (0, None), sds: tuple[float, ...] = (SD,) * 6, times: int = TIMES
) -> tuple[float, float, float]:
    """The fractions of experiments that some look decides either way, and the mean number of seeds.

    An experiment ends with its first verdict. Compares one setting with another that has this effect; the total number
    of settings is that of the standard deviations.
    """
    random = np.random.default_rng([round(1e4 * abs(effect)), effect < 0, len(sds)])
    runs = random.standard_normal((len(sds), times, LOOKS[-1])) * np.array(sds)[:, None, None]
    runs[0] += effect
    verdict, seeds = np.zeros(times), np.full(times, float(LOOKS[-1]))
    for look in reversed(LOOKS):  # an earlier verdict overrides a later one
        estimates = Estimates.of(list(runs[..., :look]))
        found = decide(*Contrast({0: 1.0, 1: -1.0}).interval(estimates, level), between)
        verdict, seeds = np.where(found != 0, found, verdict), np.where(found != 0, look, seeds)
    return float((verdict == 1).mean()), float((verdict == -1).mean()), float(seeds.mean())


def unlike() -> list[Rule]:
    """One setting against another, among six with different spreads."""
    one = (Contrast({0: 1.0, 1: -1.0}),)
    worst = (0.03, 0.03, 0.008, 0.008, 0.008, 0.008)
    alone = (0.03, *worst[2:], 0.008)
    kinds = {"alike": (SD,) * 6, "the two that spread most": FIGURE1, "the two that spread least": FIGURE1[::-1],
             "most against least": (FIGURE1[0], FIGURE1[-1], *FIGURE1[1:-1]), "two four times as wide": worst,
             "one four times as wide": alone}  # fmt: skip
    return [Rule(name, one, (0, None), raised(6, [0]), sds=sds) for name, sds in kinds.items()]


def trained(share: float, settings: int, seeds: int) -> dict[str, float]:
    """The probability of each rule that counts runs, if one of the settings trains in this share of seeds."""
    return {f"none of {settings} trains": (1 - share) ** seeds, "some trains": 1 - (1 - share) ** seeds,
            "some trains in every seed": share**seeds}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    path = parser.parse_args().results / "verdict-rules.md"
    rows = []
    for rule in rules():
        for seeds in SEEDS:
            cells = ["{:.1f} / {:.1f}".format(*(100 * part for part in rates(rule, effect, seeds)))
                     if effect <= rule.most else "" for effect in EFFECTS]  # fmt: skip
            rows.append([rule.name, str(seeds), *cells])
            print(*rows[-1], sep=" | ", flush=True)
    intervals = markdown(["rule", "seeds", *(f"{100 * effect:+g} points" for effect in EFFECTS)], rows)
    wrong = [[rule.name, *(f"{100 * sum(rates(rule, 0.0, seeds)):.1f}" for seeds in SEEDS)] for rule in unlike()]
    several = []
    for name, level, sds in [
        ("Pocock", pocock(LOOKS), (SD,) * 6), ("the same, two settings alone", pocock(LOOKS), (SD,) * 2),
        ("the same, the two that spread most of figure 1(a, b)", pocock(LOOKS), FIGURE1),
        ("95 % at each look, for comparison", LEVEL, (SD,) * 6),
    ]:  # fmt: skip
        cells = ["{:.1f} / {:.1f}, {:.1f}".format(*(100 * part for part in shares), seeds) for *shares, seeds in
                 (looked(effect, level, sds=sds) for effect in EFFECTS)]  # fmt: skip
        several.append([name, *cells])
    shares = (0.0, 0.1, 0.3, 0.5, 0.9, 1.0)
    counts = [[name, str(seeds), *(f"{100 * trained(share, 4, seeds)[name]:.0f}" for share in shares)]
              for name in trained(0, 4, 3) for seeds in SEEDS]  # fmt: skip
    text = RULES_TEXT.format(
        times=TIMES, sd=SD, intervals=intervals, figure1=" ".join(map(str, FIGURE1)),
        looks=" ".join(map(str, LOOKS)), pocock=pocock(LOOKS),
        several=markdown(["intervals", *(f"{100 * effect:+g} points" for effect in EFFECTS)], several),
        unlike=markdown(["which two", *(f"{seeds} seeds" for seeds in SEEDS)], wrong),
        counts=markdown(["rule", "seeds", *(f"probability {share:g}" for share in shares)], counts),
    )  # fmt: skip
    write_atomically(path, text.encode())
    print(f"table    {path}")


if __name__ == "__main__":
    main()
