"""Verdicts on the paper's claims: each test of claims.yaml against the tidy table of its experiment.

    python -m analysis.claims [--tier laptop] [--results results]

The table of all claims at a tier, from the archive, with the theorems' verdicts. Exit status 0 whatever they are.
"""

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from analysis import costs
from analysis.claims import entries as entry_claims
from analysis.claims import grids as grid_claims
from analysis.records import NoRecords, by_seed, options, read_table, select
from analysis.statistics import mean_interval
from analysis.tables import markdown
from analysis.verdicts import INCONCLUSIVE, LEAST_SEEDS, NOT_REPRODUCED, NOT_RUN, NOT_TESTABLE, REPRODUCED
from optimizers import PowerSGD
from runs.archive import load

HEADER = ["claim", "section", "verdict", "evidence"]
CLAIMS = Path(__file__).with_name("claims.yaml")


@dataclass
class Verdict:
    claim: str
    section: str
    verdict: str  # reproduced, not reproduced, mixed, inconclusive, not run, not testable
    evidence: str
    experiment: str | None = None  # whose runs it needs


def judge(rows: list[dict], experiment: str, planned: Sequence[dict] = ()) -> list[Verdict]:
    """The verdict on every claim about an experiment, from its tidy table.

    planned: the runs that the table would have if all had ended, as the archive lists them.
    """
    verdicts = []
    for spec in yaml.safe_load(CLAIMS.read_text()).values():
        if experiment not in _experiments(spec):
            continue
        place = f"{spec['section']}; {experiment}" if isinstance(spec["experiment"], list) else spec["section"]
        for network in spec.get("networks", [None]):  # a verdict on each
            one = spec | {"planned": planned}
            if network:
                one["settings"] = spec["settings"] | {"model": network}
            section = f"{place}; {network}" if network else place
            verdicts.append(Verdict(spec["claim"].strip(), section, *TESTS[spec["test"]](one, rows), experiment))
    return verdicts


def _experiments(spec: dict) -> list[str]:
    return spec["experiment"] if isinstance(spec["experiment"], list) else [spec["experiment"]]


def main() -> None:
    arguments = options(__doc__, "laptop").parse_args()
    verdicts = everything(arguments.results, arguments.tier)
    path = arguments.results / arguments.tier / "claims.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# The paper's claims, tier {arguments.tier}\n\n{as_markdown(verdicts, arguments.tier)}")
    for found in verdicts:
        print(f"{found.verdict:15} {found.claim} [{found.section}]\n{'':15} {found.evidence}")
    counted = Counter(found.verdict for found in verdicts)
    print(", ".join(f"{count} {verdict}" for verdict, count in counted.most_common()))
    print(f"table    {path}")


def everything(results: Path, tier: str) -> list[Verdict]:
    """The verdicts on all claims: of each experiment from the tier's archive, and of the theorems.

    The evidence of those that were not run is what it would take.
    """
    claims = yaml.safe_load(CLAIMS.read_text())
    verdicts = []
    for experiment in dict.fromkeys(name for spec in claims.values() for name in _experiments(spec)):
        runs, rows = load(results / tier / "archive", experiment)
        found = judge(rows, experiment, runs)
        cost = costs.price(experiment, results, tier) if experiment else ""
        for verdict in found:
            if verdict.verdict == NOT_RUN and cost:
                verdict.evidence += f"; {cost}"
        verdicts += found
    try:
        theory = read_table(results / "theory" / "verdicts.csv")
    except NoRecords:
        theory = []
    return verdicts + [Verdict(row["claim"], row["section"], row["verdict"], row["evidence"]) for row in theory]


def seeded(test):
    """A test of one setting's series by seed: (spec, series, rows) -> (holds, evidence)."""

    @functools.wraps(test)
    def judged(spec: dict, rows: list[dict]) -> tuple[str, str]:
        series = by_seed(select(rows, **spec["settings"]), spec["column"])
        if not series:
            return NOT_RUN, "no run"
        holds, evidence = test(spec, series, rows)
        if len(series) < LEAST_SEEDS:
            return INCONCLUSIVE, f"{evidence}; {len(series)} of at least {LEAST_SEEDS} seeds"
        return REPRODUCED if holds else NOT_REPRODUCED, evidence

    return judged


@seeded
def never_above(spec: dict, series: dict[int, list[float]], rows: list[dict]) -> tuple[bool, str]:
    """The largest value of every seed stays at or below the threshold."""
    best = {seed: max(values) for seed, values in series.items()}
    text = f"best {spec['column']} {max(best.values()):.4f} over {len(best)} seeds (threshold {spec['threshold']})"
    return max(best.values()) <= spec["threshold"], text


@seeded
def last_near(spec: dict, series: dict[int, list[float]], rows: list[dict]) -> tuple[bool, str]:
    """The mean over seeds at the last epoch reaches the paper's number, less the tolerance."""
    mean, low, high = mean_interval([values[-1] for values in series.values()])
    text = (
        f"last {spec['column']} {mean:.4f} [{low:.4f}, {high:.4f}] over {len(series)} seeds "
        f"(paper {spec['paper']}, tolerance {spec['tolerance']})"
    )
    return mean >= spec["paper"] - spec["tolerance"], text


@seeded
def always_larger(spec: dict, series: dict[int, list[float]], rows: list[dict]) -> tuple[bool, str]:
    """In every epoch of every seed, the value is more than `factor` times the other setting's of that seed."""
    other = by_seed(select(rows, **spec["than"]), spec["than_column"])
    ratios = [a / b for seed in series if seed in other for a, b in zip(series[seed], other[seed], strict=False) if b]
    if not ratios:
        return False, f"no seed in common with {spec['than']}"
    return min(ratios) > spec["factor"], f"smallest ratio {min(ratios):.3g} (threshold {spec['factor']})"


def trained(spec: dict, rows: list[dict]) -> tuple[str, str]:
    """Does a network of the grid train, by the best train accuracy of a run: `some` setting, or `none`?

    One run that reached the threshold shows that it can; that none can takes all cells and seeds enough. settings:
    columns that the rows must have; below: columns with an upper bound, itself excluded; cells: how many settings
    there are; every_seed: a setting counts as trained only if all of its runs did.
    """
    chosen = [row for row in select(rows, **spec["settings"])
              if all(row[key] < bound for key, bound in spec.get("below", {}).items())]  # fmt: skip
    reached: dict[tuple, dict[str, float]] = {}
    for row in chosen:
        runs = reached.setdefault((row["label"], row["initial_lr"], row["gamma"]), {})
        runs[row["run"]] = max(runs.get(row["run"], 0.0), row["train_acc"])
    if not reached:
        return NOT_RUN, "no run"
    seeds = min(len(runs) for runs in reached.values())
    good = {key: sum(value >= spec["threshold"] for value in runs.values()) for key, runs in reached.items()}
    need = {key: len(runs) if spec.get("every_seed") else 1 for key, runs in reached.items()}
    good = {key: count for key, count in good.items() if count >= need[key]}
    text = f"{len(good)} of {spec['cells']} settings trained, {seeds} seed{'s' if seeds != 1 else ''}"
    if good:
        several = len({label for label, _, _ in reached}) > 1
        names = [(f"{label} " if several else "") + f"lr {lr:g}" + ("" if gamma is None else f" γ {gamma:g}")
                 + (f" ({count} of {len(reached[label, lr, gamma])})" if seeds > 1 else "")
                 for (label, lr, gamma), count in good.items()]  # fmt: skip
        text += f": {', '.join(names)}"
        if spec.get("every_seed") and seeds < LEAST_SEEDS:
            return INCONCLUSIVE, f"{text}, of at least {LEAST_SEEDS}"
        return REPRODUCED if spec["expect"] == "some" else NOT_REPRODUCED, text
    if len(reached) < spec["cells"]:  # one that is missing might train
        return INCONCLUSIVE, f"{text}; {spec['cells'] - len(reached)} settings not run"
    if seeds < LEAST_SEEDS:
        return INCONCLUSIVE, f"{text}, of at least {LEAST_SEEDS}"
    return NOT_REPRODUCED if spec["expect"] == "some" else REPRODUCED, text


def no_extra_memory(spec: dict, rows: list[dict]) -> tuple[str, str]:
    """The optimizers of the claim hold no more state than torch's SGD with the same momentum, after a step."""
    sizes = {}
    for name, make in {
        "SGD": lambda p: torch.optim.SGD(p, 0.1),
        "PowerSGD": lambda p: PowerSGD(p, 0.1, 0.5),
        "SGDM": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
        "PowerSGDM": lambda p: PowerSGD(p, 0.1, 0.5, momentum=0.9),
    }.items():
        x = torch.nn.Parameter(torch.ones(1000))
        x.grad = torch.ones(1000)
        optimizer = make([x])
        optimizer.step()
        states = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
        sizes[name] = sum(value.numel() for value in states)
    holds = sizes["PowerSGD"] <= sizes["SGD"] and sizes["PowerSGDM"] <= sizes["SGDM"]
    text = "numbers of state for 1000 parameters: " + ", ".join(f"{name} {size}" for name, size in sizes.items())
    return REPRODUCED if holds else NOT_REPRODUCED, text


def untestable(spec: dict, rows: list[dict]) -> tuple[str, str]:
    return NOT_TESTABLE, spec["reason"]


TESTS = {test.__name__: test for test in (never_above, last_near, always_larger, trained, no_extra_memory, untestable)}
TESTS |= entry_claims.TESTS | grid_claims.TESTS


def as_markdown(verdicts: list[Verdict], tier: str) -> str:
    lines = [[v.claim, v.section, f"**{v.verdict}**", v.evidence] for v in verdicts]
    return markdown([*HEADER[:2], f"verdict (tier {tier})", HEADER[3]], lines)
