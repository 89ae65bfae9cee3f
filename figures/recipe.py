"""What a figure is, and how it is made from an experiment's archive into the files of a tier.

A module in this folder is a recipe: its FIGURES say which experiment is reduced how to which picture and table. A
figure of a kind that exists is one more line in that module's FIGURES.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

import figures
from analysis import records, style
from analysis.claims.judge import as_markdown, judge
from runs.files import write_text


@dataclass(frozen=True)
class Figure:
    """One command's pictures and tables.

    about: its first line says what the figure shows.
    make: takes (epochs, provenance) of records.collect and returns contents by file name: a picture under a name
    without suffix, a DataFrame under .csv, a text under its own name. Without an experiment, make takes no arguments
    and the figure belongs to no tier.
    """

    about: str | None
    make: Callable[..., dict]
    experiment: str | None = None
    tier: str = "paper"  # unless the command says otherwise
    names: tuple[str, ...] = ()  # other names that draw it, alone or with others

    @property
    def caption(self) -> str:
        return (self.about or "").partition("\n")[0]


def all_figures() -> dict[str, Figure]:
    """Every figure of the modules in this folder, by its name."""
    found: dict[str, Figure] = {}
    for module in pkgutil.iter_modules(figures.__path__):
        if module.name != "__main__":
            found |= getattr(importlib.import_module(f"figures.{module.name}"), "FIGURES", {})
    return found


def draw(figure: Figure, results: Path, tier: str, redraw: bool) -> list[Path]:
    """Make a figure, then write all its files. Raises NoRecords."""
    if figure.experiment is None:
        folder, made = results, figure.make()
    else:
        folder = results / tier
        made = figure.make(*records.collect(results, tier, figure.experiment, redraw))
    written = []
    for name, content in made.items():
        if isinstance(content, str):
            written.append(write_text(folder / name, content))
        elif isinstance(content, pd.DataFrame):
            records.write(folder / name, content)
            written.append(folder / name)
        else:
            written += style.save(content, folder / name, figure.caption)
    return written


def verdicts(provenance: dict) -> str:
    """The verdicts on the claims about an experiment, as a table; "" if there are none."""
    found = judge(provenance["results"], provenance["tier"], provenance["experiment"])
    return as_markdown(found) + "\n" if found else ""


def reported(epochs: pd.DataFrame, provenance: dict) -> pd.DataFrame:
    """The chosen settings' runs from fresh seeds. Raises NoRecords until there are two entries to compare."""
    found = epochs[epochs["stage"] == "report"]
    entries = found["label"].unique()
    if len(entries) < 1 + bool(provenance["missing"]):  # a whole experiment may consist of one entry
        about = provenance["experiment"], provenance["tier"]
        what = f"only {entries[0]}" if len(entries) else "nothing"
        raise records.NoRecords(f"{what} has been chosen for {about[0]} yet; {records.advice(*about)}")
    return found


def so_far(epochs: pd.DataFrame) -> pd.DataFrame:
    """As `reported`, but of an entry that has nothing chosen, its selecting runs with the best setting tried.

    The best is by the images that select, among the settings with the most seeds.
    """
    column = "validation_acc" if "validation_acc" in epochs and epochs["validation_acc"].notna().any() else "test_acc"
    found = []
    for _, runs in epochs.groupby("label", sort=False):
        shown = runs[runs["stage"] == "report"]
        if shown.empty:
            tried = records.best(runs, column).fillna({column: 0.0})
            scores = tried.groupby("setting", sort=False)[column].agg(["size", "mean"])
            shown = runs[runs["setting"] == scores[scores["size"] == scores["size"].max()]["mean"].idxmax()]
        found.append(shown)
    return pd.concat(found)


def missing(provenance: dict) -> str:
    count = len(provenance["missing"])
    return f"\n{style.counted(count, 'run')} {'is' if count == 1 else 'are'} missing.\n" if count else ""
