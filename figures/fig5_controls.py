"""Figure 5 for SGD with longer steps along the gradient: is it the power, or only a larger step?

python -m figures.fig5_controls [--tier laptop] [--results results] [--redraw]
"""

from . import style
from .fig5 import cells, draw
from .records import collect, command, options, write_table


def main() -> None:
    arguments = options(__doc__, "laptop").parse_args()
    base = arguments.results / arguments.tier / "figure5_controls"
    rows, provenance = collect(arguments.results, arguments.tier, "fig5_controls", arguments.redraw)
    found = cells(rows)
    write_table(base.with_suffix(".csv"), found)
    print("pictures", *style.save(draw(found, provenance), base))
    print(f"table    {base.with_suffix('.csv')}")


if __name__ == "__main__":
    command(main)
