"""The cost of what was not run, from costs.json, which `python sweep.py plan=true archive=true tier=...` writes."""

from pathlib import Path

import pandas as pd

from analysis import records
from runs.archive import MISSING
from runs.files import read_json


def read(results: Path, tier: str) -> dict[str, dict]:
    """By experiment: the number of runs missing at a tier, and their hours on this machine and on a GPU.

    {} if no plan was made. Raises DamagedFile.
    """
    try:
        advice = f"write it again: python sweep.py plan=true archive=true tier={tier}"
        return read_json(results / tier / "costs.json", advice, experiments=dict)["experiments"]
    except FileNotFoundError:
        return {}


def price(experiment: str, results: Path, tier: str) -> str:
    """In words, how long the missing runs of an experiment would take at this tier and at the paper's scale."""
    here, paper = (read(results, name).get(experiment) for name in (tier, "paper"))
    if tier != "paper" and ran(experiment, results):
        partly = " in part" if paper and paper["missing"] else ""
        return f"{experiment} was run{partly} at the paper's scale, see tier paper"
    parts = [f"{hours(here['hours'])} of this machine"] if here and here["missing"] else []
    if tier != "paper":
        parts = parts or [f"there is no tier {tier}"]
    if paper:
        parts.append(f"{hours(paper['gpu_hours'])} of a GPU" + (" at the paper's scale" if tier != "paper" else ""))
    return f"{experiment}: {', '.join(parts)}" if parts else ""


def ran(experiment: str, results: Path) -> bool:
    """Whether the experiment has runs at the paper's tier."""
    return bool((records.load(results / "paper" / "archive", experiment)[0]["state"] != MISSING).any())


def of_runs(count: int, like: pd.DataFrame) -> str:
    """In words, how long `count` runs would take on one core, each as long as the mean of `like` (`seconds`)."""
    return f"{count} run{'s' * (count != 1)}" + (
        f", {hours(count * like['seconds'].mean() / 3600)} of one core" if len(like) else ""
    )


def hours(number: float) -> str:
    if number < 1:
        return f"{max(60 * number, 1):.0f} minutes"
    return f"{number:.1f} hours" if number < 10 else f"{number:,.0f} hours"
