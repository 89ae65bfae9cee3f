"""What a figure is, and how it is made: from an experiment's archive to the files of its tier.

A module of this folder is a recipe: its FIGURES say which experiment, which reduction, which picture and which table.
A figure of the same kind as another is one more line of that module's FIGURES.
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

    about: what it shows, in its first line.
    make: (epochs, provenance) of records.collect to the contents by file name: a picture under a name without a suffix,
    a DataFrame under .csv, a text under its own. Without an experiment it takes nothing and belongs to no tier.
    """

    about: str | None
    make: Callable[..., dict]
    experiment: str | None = None
    tier: str = "paper"  # unless the command says otherwise
    names: tuple[str, ...] = ()  # under which it is drawn too, alone or with others

    @property
    def caption(self) -> str:
        return (self.about or "").partition("\n")[0]


def all_figures() -> dict[str, Figure]:
    """Every figure of the modules of this folder, by its name."""
    found: dict[str, Figure] = {}
    for module in pkgutil.iter_modules(figures.__path__):
        if module.name != "__main__":
            found |= getattr(importlib.import_module(f"figures.{module.name}"), "FIGURES", {})
    return found


def draw(figure: Figure, results: Path, tier: str, redraw: bool) -> list[Path]:
    """Make a figure and write it; nothing is written before all of it is made. Raises NoRecords."""
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
    """The verdicts on the claims about an experiment, as a table; nothing where there are none."""
    found = judge(provenance["results"], provenance["tier"], provenance["experiment"])
    return as_markdown(found) + "\n" if found else ""


def reported(epochs: pd.DataFrame, provenance: dict) -> pd.DataFrame:
    """The chosen settings' runs from fresh seeds. Raises NoRecords while there are not two entries to compare."""
    found = epochs[epochs["stage"] == "report"]
    entries = found["label"].unique()
    if len(entries) < 1 + bool(provenance["missing"]):  # of a whole experiment one may be all there is
        about = provenance["experiment"], provenance["tier"]
        what = f"only {entries[0]}" if len(entries) else "nothing"
        raise records.NoRecords(f"{what} has been chosen for {about[0]} yet; {records.advice(*about)}")
    return found


def missing(provenance: dict) -> str:
    count = len(provenance["missing"])
    return f"\n{style.counted(count, 'run')} {'is' if count == 1 else 'are'} missing.\n" if count else ""
