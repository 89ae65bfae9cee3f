"""The claims as the page shows them: one entry for each claim, with its verdicts at all tiers side by side."""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from analysis import names
from analysis.claims import judge
from analysis.claims.schema import Claim, Interval
from analysis.verdicts import INCONCLUSIVE, MIXED, NOT_REPRODUCED, NOT_RUN, NOT_TESTABLE, NOT_TESTABLE_HERE, REPRODUCED

ORDER = (REPRODUCED, NOT_REPRODUCED, MIXED, INCONCLUSIVE, NOT_TESTABLE_HERE, NOT_TESTABLE, NOT_RUN)
MARKS: dict[str, str] = dict(zip(ORDER, "✓✗±?––○", strict=True))
WORDS = set(Claim.model_fields)  # what every claim has; the others are the test's arguments
LONG = 120  # characters of evidence that are shown unfolded
NARROW = 20.0  # percent of a track; the numbers of two bounds that are closer share a label


@dataclass
class Bar:
    """An interval on its track; lengths are percentages of the track's."""

    name: str
    verdict: str
    text: str
    left: float
    width: float
    dot: float
    holds: tuple[float, float]  # where it must lie: left, width


@dataclass
class Cell:
    """A verdict on a claim at a tier, from an experiment and a network."""

    tier: str  # empty: it needs no run
    where: str
    verdict: str
    lead: str
    evidence: str
    fixed: str  # before or after the runs, not known, or empty
    commit: str
    bars: list[Bar]
    bounds: list[tuple[float, str]]  # where the bounds lie on the track
    experiment: str | None
    runs: tuple[str, ...]


@dataclass
class Entry:
    key: str
    claim: str
    says: str
    section: str
    objection: str
    figure: str
    test: str
    arguments: list[tuple[str, str]]
    cells: list[Cell] = field(default_factory=list)

    @property
    def run(self) -> bool:
        return any(cell.verdict != NOT_RUN for cell in self.cells)

    @property
    def judged(self) -> dict[str, list[Cell]]:
        return self._by_tier(lambda cell: cell.verdict != NOT_RUN)

    @property
    def missing(self) -> dict[str, list[Cell]]:
        return self._by_tier(lambda cell: cell.verdict == NOT_RUN)

    def _by_tier(self, wanted: Callable[[Cell], bool]) -> dict[str, list[Cell]]:
        found: dict[str, list[Cell]] = {}
        for cell in filter(wanted, self.cells):
            found.setdefault(cell.tier, []).append(cell)
        return found

    @property
    def experiments(self) -> list[str]:
        return list(dict.fromkeys(cell.experiment for cell in self.cells if cell.experiment))


def merged(verdicts: dict[str, list[judge.Verdict]]) -> list[Entry]:
    """The claims of all tiers, from the verdicts by tier; a claim that needs no run is shown once."""
    entries: dict[str, Entry] = {}
    for tier, found in verdicts.items():
        for verdict in found:
            entry = entries.setdefault(verdict.key, _entry(verdict))
            if verdict.experiment or not entry.cells:
                entry.cells.append(_cell(tier if verdict.experiment else "", verdict))
    return list(entries.values())


def _entry(verdict: judge.Verdict) -> Entry:
    claim = judge.read().get(verdict.key)
    number = re.match(r"fig(\d)", verdict.key)
    figure = number[1] if number else "theory" if verdict.key.startswith(("theorem-", "remark-")) else ""
    test = inspect.cleandoc(type(claim).__doc__ or "").split("\n\n")[0] if claim else ""
    arguments = [(name, _spelled(getattr(claim, name), name)) for name in type(claim).model_fields
                 if name not in WORDS and name in claim.model_fields_set] if claim else []  # fmt: skip
    section = place(claim.section) if claim else verdict.place
    return Entry(verdict.key, verdict.claim, verdict.says, section, verdict.objection, figure, test, arguments)


def place(section: str) -> str:
    """A place in the paper as a reader says it: 4.2 is section 4.2, C is appendix C."""
    return re.sub(r"^(?=\d)", "Section ", re.sub(r"^(?=[A-E]\b)", "Appendix ", section))


def _spelled(value, name: str = "") -> str:
    if name == "between":
        least, most = value
        ends = (("above", least), ("below", most))
        return " and ".join(f"{word} {end:g}" for word, end in ends if end is not None)
    if hasattr(value, "model_dump"):
        return ", ".join(f"{key} {part}" for key, part in value.model_dump(exclude_unset=True).items())
    if isinstance(value, tuple):
        return ", ".join(_spelled(part) for part in value)
    return "none" if value is None else str(value)


def _cell(tier: str, verdict: judge.Verdict) -> Cell:
    fixed, _, commit = verdict.fixed.removesuffix(")").partition(" (")
    network = names.NETWORKS.get(verdict.network, verdict.network) if verdict.network else ""
    bars, bounds = track(verdict.intervals)
    where = ", ".join(filter(None, [verdict.experiment, network]))
    return Cell(tier, where, verdict.verdict, lead(verdict), verdict.evidence, fixed, commit, bars, bounds,
                verdict.experiment, verdict.runs)  # fmt: skip


def lead(verdict: judge.Verdict) -> str:
    """The first words of the evidence: all of it if it is short, nothing if bars show it."""
    if verdict.verdict == NOT_TESTABLE_HERE:
        return verdict.evidence.partition(". Measured")[0]
    if verdict.intervals:
        return ""
    text = verdict.evidence
    return text if len(text) <= LONG else re.split(r"; |: (?=lr|\w+ lr)", text)[0]


def track(intervals: Sequence[Interval]) -> tuple[list[Bar], list[tuple[float, str]]]:
    """Bars on a common axis that covers all of them and their bounds; and the bounds with their numbers."""
    if not intervals:
        return [], []
    form = intervals[0].form
    bounds = sorted({bound for one in intervals for bound in one.between if bound is not None})
    ends = [*bounds, *(end for one in intervals for end in (one.low, one.high, one.value))]
    room = 0.06 * (max(ends) - min(ends)) or 1.0
    low, high = min(ends) - room, max(ends) + room

    def at(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    bars = []
    for one in intervals:
        least, most = (at(end if end is not None else edge) for end, edge in zip(one.between, (low, high), strict=True))
        text = f"{one.value:{form}} [{one.low:{form}}, {one.high:{form}}]"
        bars.append(Bar(one.name, one.verdict, text, at(one.low), round(at(one.high) - at(one.low), 2), at(one.value),
                        (least, round(most - least, 2))))  # fmt: skip
    places, numbers = [at(bound) for bound in bounds], [f"{bound:{form}}" if bound else "0" for bound in bounds]
    if len(bounds) == 2 and places[1] - places[0] < NARROW:
        return bars, [(round(sum(places) / 2, 2), " to ".join(numbers))]
    return bars, list(zip(places, numbers, strict=True))


def counts(entries: Sequence[Entry], tier: str | None = None) -> dict[str, int]:
    """How many claims have each kind of verdict, at this tier or at any."""
    return {kind: sum(any(cell.verdict == kind and tier in (None, cell.tier) for cell in entry.cells)
                      for entry in entries) for kind in ORDER}  # fmt: skip
