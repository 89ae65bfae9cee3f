"""Verdicts on the paper's claims: each test of claims.yaml against the archive of its experiment.

    python -m analysis.claims [--tier laptop] [--results results]

Prints the table of all claims at a tier, from the archive, with the theorems' verdicts. Exit status 0 whatever the
verdicts. docs/verdicts.md explains how a verdict comes about.
"""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from analysis import costs
from analysis.records import NoRecords, options, read_table
from analysis.tables import markdown
from analysis.verdicts import NOT_RUN, NOT_TESTABLE_HERE
from runs.files import write_text

from . import counts, entries, facts, grids, regimes
from .fixed import Ancestry
from .schema import NO_RUNS, Archive, Claim, ClaimError, Finding, Interval, NoVerdict, grid_labels, lacks

HEADER = ["claim", "the paper", "verdict", "fixed", "evidence", "strongest objection"]
NOTE = (
    "*Fixed*: whether the test and its thresholds stood before the runs, and since which commit. How an interval is "
    "made changed for all claims in b67480d8c83c ([verdicts](../../docs/verdicts.md))."
)
CLAIMS = Path(__file__).with_name("claims.yaml")
Kind = entries.Kind | grids.Kind | counts.Kind | facts.Kind


@dataclass
class Verdict:
    key: str  # from claims.yaml or theory/verdicts.py
    claim: str
    place: str  # where the paper says it, and the experiment and network that judge it
    verdict: str  # one of analysis/verdicts.py
    evidence: str
    fixed: str = ""  # before or after the runs, and by which commit
    says: str = ""  # the paper's words
    objection: str = ""
    experiment: str | None = None  # the one whose runs it needs
    network: str | None = None  # if the experiment has several
    intervals: tuple[Interval, ...] = ()
    runs: tuple[str, ...] = ()  # the ended runs that judge it
    labels: tuple[str, ...] = ()  # of these runs' entries; empty: all
    hours: float | None = None  # of one core, for an inconclusive one: what would decide it, if known
    plannable: bool = True  # whether the experiment's plan at this tier has runs that can decide it

    def row(self) -> list[str]:
        """The cells under HEADER."""
        paper = f"“{self.says}” ({self.place})" if self.says else self.place
        return [self.claim, paper, self.verdict, self.fixed, self.evidence, self.objection]


@cache
def read(path: Path = CLAIMS) -> dict[str, Kind]:
    """All claims, checked. Raises ClaimError with one line for the first invalid one."""
    adapter = TypeAdapter(dict[str, Annotated[Kind, Field(discriminator="test")]])
    try:
        return adapter.validate_python(yaml.safe_load(path.read_text()), strict=False)
    except yaml.YAMLError as error:
        raise ClaimError(f"{path}: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key, *where = map(str, first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ClaimError(f"{path}: {key}: {'.'.join(where[1:]) or 'the claim'}: {message}") from None


def judge(results: Path, tier: str, experiment: str, ancestry: Ancestry | None = None) -> list[Verdict]:
    """The verdict on every claim about an experiment, from its archive; if not run, with what its runs would take."""
    ancestry = ancestry or Ancestry(results)
    load, price = cache(partial(Archive.load, results, tier)), cache(partial(costs.price, results=results, tier=tier))
    verdicts = []
    for key, claim in read().items():
        for name in claim.experiment:
            judging = regimes.experiment(claim, name, tier)
            if experiment not in (name, judging):
                continue
            archive = load(judging)  # without optimizers that someone added: no claim is about these
            archive = archive.only(archive.runs["label"].isin(grid_labels(judging)))
            about = [claim.section, judging * (len(claim.experiment) > 1)]
            about += [f"{claim.regime} regime" * (tier in regimes.TWO and claim.regime != "any")]
            for network in claim.networks or [None]:
                part = archive if network is None else archive.only(archive.runs["model"] == network)
                place = "; ".join(filter(None, [*about, network]))
                found = replace(_verdict(key, claim, place, part, ancestry), network=network)
                gap = lacks(claim, judging, tier, network) if found.verdict == NOT_RUN else ""
                cost = price(judging) if found.verdict == NOT_RUN else ""
                found.evidence = gap or "; ".join(filter(None, [found.evidence, cost]))
                found.plannable = claim.plannable and not gap
                verdicts.append(found)
    return verdicts


def _verdict(key: str, claim: Claim, place: str, archive: Archive, ancestry: Ancestry) -> Verdict:
    about = Verdict(key, claim.claim.strip(), place, NOT_RUN, "", "", claim.says, claim.objection, archive.experiment)
    judged = archive.only(claim.judged(archive))
    try:
        found = claim.judge(archive)
    except NoVerdict as error:
        found = Finding(NOT_RUN, str(error))
    about.verdict, about.evidence, about.intervals = found.verdict, found.evidence, found.intervals
    about.runs = tuple(dict.fromkeys(judged.ended()["run"]))
    about.hours = found.hours
    about.labels = claim.labels if isinstance(claim, entries.Entries) else tuple(judged.runs["label"].unique())
    reason = regimes.unmet(claim, judged)
    if found.verdict != NOT_RUN and reason:
        about.verdict, about.evidence = NOT_TESTABLE_HERE, f"{reason}. Measured: {found.numbers or found.evidence}"
    commits = {environment["commit"] for environment in judged.ended()["environment"]}
    decides = regimes.RULE if about.verdict == NOT_TESTABLE_HERE else claim.fixed
    if decides:
        about.fixed = f"{ancestry.before(decides, commits) if commits else 'no run yet'} ({decides})"
    return about


def on_experiments(results: Path, tier: str, ancestry: Ancestry | None = None) -> list[Verdict]:
    """The verdicts on all claims about experiments, from the tier's archive."""
    ancestry = ancestry or Ancestry(results)
    experiments = dict.fromkeys(name for claim in read().values() for name in claim.experiment)
    return [verdict for experiment in experiments for verdict in judge(results, tier, experiment, ancestry)]


def everything(results: Path, tier: str, ancestry: Ancestry | None = None) -> list[Verdict]:
    """The verdicts on all claims: those about experiments; those that need no run; the theorems."""
    found = on_experiments(results, tier, ancestry)
    for key, claim in read().items():
        if not claim.experiment:
            says = claim.judge(NO_RUNS)
            found.append(
                Verdict(key, claim.claim, claim.section, says.verdict, says.evidence, "", claim.says, claim.objection)
            )
    try:
        theory = read_table(results / "theory" / "verdicts.csv")
    except NoRecords:
        theory = []
    return found + [Verdict(row["key"], row["claim"], row["section"], row["verdict"], row["evidence"] or "",
                            objection=row.get("objection") or "") for row in theory]  # fmt: skip


def main() -> None:
    arguments = options(__doc__, "laptop").parse_args()
    ancestry = Ancestry(arguments.results)
    verdicts = everything(arguments.results, arguments.tier, ancestry)
    ancestry.write()
    path = arguments.results / arguments.tier / "claims.md"
    write_text(path, f"# The paper's claims, tier {arguments.tier}\n\n{as_markdown(verdicts)}\n{NOTE}\n")
    for found in verdicts:
        print(f"{found.verdict:15} {found.claim} [{found.place}]\n{'':15} {found.evidence}")
    counted = Counter(found.verdict for found in verdicts)
    print(", ".join(f"{count} {verdict}" for verdict, count in counted.most_common()))
    print(f"table    {path}")


def as_markdown(verdicts: list[Verdict]) -> str:
    rows = [verdict.row() for verdict in verdicts]
    return markdown(HEADER, [[*row[:2], f"**{row[2]}**", *row[3:]] for row in rows])
