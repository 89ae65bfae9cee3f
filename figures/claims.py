"""Verdicts on the paper's claims: each test of claims.yaml against the tidy table of its experiment."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from .records import by_seed, select
from .statistics import mean_interval

CLAIMS = Path(__file__).with_name("claims.yaml")
LEAST_SEEDS = 3


@dataclass
class Verdict:
    claim: str
    section: str
    verdict: str  # reproduced, not reproduced, inconclusive, not run
    evidence: str


def judge(rows: list[dict], experiment: str) -> list[Verdict]:
    """The verdict on every claim about an experiment, from its tidy table."""
    claims = yaml.safe_load(CLAIMS.read_text())
    return [_judge_one(spec, rows) for spec in claims.values() if spec["experiment"] == experiment]


def _judge_one(spec: dict, rows: list[dict]) -> Verdict:
    chosen = select(rows, **spec["settings"])
    series = by_seed(chosen, spec["column"])
    if not series:
        verdict, evidence = "not run", f"no run with {spec['settings']}"
    else:
        holds, evidence = TESTS[spec["test"]](spec, series, rows)
        verdict = "reproduced" if holds else "not reproduced"
        if len(series) < LEAST_SEEDS:
            verdict = "inconclusive"
            evidence += f"; {len(series)} of at least {LEAST_SEEDS} seeds"
    return Verdict(spec["claim"].strip(), spec["section"], verdict, evidence)


def never_above(spec: dict, series: dict[int, list[float]], rows: list[dict]) -> tuple[bool, str]:
    """The largest value of every seed stays at or below the threshold."""
    best = {seed: max(values) for seed, values in series.items()}
    text = f"best {spec['column']} {max(best.values()):.4f} over {len(best)} seeds (threshold {spec['threshold']})"
    return max(best.values()) <= spec["threshold"], text


def last_near(spec: dict, series: dict[int, list[float]], rows: list[dict]) -> tuple[bool, str]:
    """The mean over seeds at the last epoch is within the tolerance of the paper's number."""
    mean, low, high = mean_interval([values[-1] for values in series.values()])
    text = (
        f"last {spec['column']} {mean:.4f} [{low:.4f}, {high:.4f}] over {len(series)} seeds "
        f"(paper {spec['paper']}, tolerance {spec['tolerance']})"
    )
    return abs(mean - spec["paper"]) <= spec["tolerance"], text


def always_larger(spec: dict, series: dict[int, list[float]], rows: list[dict]) -> tuple[bool, str]:
    """In every epoch of every seed, the value is more than `factor` times the other setting's of that seed."""
    other = by_seed(select(rows, **spec["than"]), spec["than_column"])
    ratios = [a / b for seed in series if seed in other for a, b in zip(series[seed], other[seed], strict=False) if b]
    if not ratios:
        return False, f"no seed in common with {spec['than']}"
    return min(ratios) > spec["factor"], f"smallest ratio {min(ratios):.3g} (threshold {spec['factor']})"


TESTS = {test.__name__: test for test in (never_above, last_near, always_larger)}


def as_markdown(verdicts: list[Verdict], tier: str) -> str:
    lines = [f"| claim | section | verdict (tier {tier}) | evidence |", "| --- | --- | --- | --- |"]
    lines += [f"| {v.claim} | {v.section} | **{v.verdict}** | {v.evidence} |" for v in verdicts]
    return "\n".join(lines) + "\n"
