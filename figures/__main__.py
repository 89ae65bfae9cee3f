"""Draw figures and tables from finished runs; nothing here trains. Without a name, lists them.

python -m figures fig4 [fig5 ...] [--tier paper] [--redraw] [--results results]
python -m figures --redraw        all that have an archive, at every tier
"""

import difflib
from collections.abc import Sequence
from pathlib import Path

from analysis.records import TIERS, NoRecords, command, options

from .recipe import Figure, all_figures, draw


def main() -> None:
    parser = options(__doc__, None)
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    figures = all_figures()
    groups: dict[str, list[str]] = {}
    for name, figure in figures.items():
        for one in (name, *figure.names):
            groups.setdefault(one, []).append(name)
    for name in arguments.names:
        if name not in groups:
            near = difflib.get_close_matches(name, groups, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            parser.error(f"there is no figure '{name}'{hint} ('python -m figures' lists them)")
    if not arguments.names and not arguments.redraw:
        print("\n".join(f"{name:20} {figure.caption}" for name, figure in figures.items()))
    elif not arguments.names:
        redraw_all(figures, arguments.results, [arguments.tier] if arguments.tier else TIERS)
    for name in arguments.names:
        draw_some({one: figures[one] for one in groups[name]}, arguments)


def draw_some(chosen: dict[str, Figure], arguments) -> None:
    """Draw those that have runs. Raises NoRecords if none has."""
    refused = []
    for name, figure in chosen.items():
        try:
            report(name, draw(figure, arguments.results, arguments.tier or figure.tier, arguments.redraw))
        except NoRecords as error:
            refused.append(error)
            if len(refused) == len(chosen):
                raise
            print(f"{name} not drawn: {error}")


def redraw_all(figures: dict[str, Figure], results: Path, tiers: Sequence[str]) -> None:
    for name, figure in figures.items():
        for tier in tiers:
            if figure.experiment and (results / tier / "archive" / f"{figure.experiment}-epochs.csv").exists():
                try:
                    report(name, draw(figure, results, tier, redraw=True))
                except NoRecords as error:
                    print(f"{name} not drawn: {error}")


def report(name: str, written: list[Path]) -> None:
    print(f"{name}: {' '.join(map(str, written))}")


if __name__ == "__main__":
    command(main)
