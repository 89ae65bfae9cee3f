"""Is the comparison fair? The best of k settings against k, for each optimizer's grid of an experiment.

    python -m figures.fairness [fig1ab ...] [--tier laptop] [--results results] [--redraw]

PowerSGD is tuned over 25 settings and SGDM over 5, both on the test set. The expected best of k settings, drawn without
replacement from the grid, says what each reaches at an equal budget. Refinement is left out: only grids are drawn from.
"""

from collections import Counter

from analysis import style
from analysis.records import collect_rows, command, grid_scores, options
from analysis.statistics import expected_best
from analysis.tables import markdown

from .fig1 import NAMES, PANELS

HEADER = ["optimizer", "settings of the grid", "best of the grid", "of them, tried", "expected best of those",
          "settings of the refinement"]  # fmt: skip


def main() -> None:
    parser = options(__doc__, "laptop")
    experiments = [f"fig1{pair}" for pair in PANELS]
    parser.add_argument("experiments", nargs="*", default=[], help=f"default: fig1ab; of {' '.join(experiments)}")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.experiments if name not in experiments]
    if unknown:
        parser.error(f"{unknown[0]} has no selection; choose from {' '.join(experiments)}")
    for experiment in arguments.experiments or ["fig1ab"]:
        rows, provenance = collect_rows(arguments.results, arguments.tier, experiment, arguments.redraw)
        found = grid_scores(rows)
        drawn = {row["run"]: row["seed"] for row in rows if row["stage"] == "grid"}  # of those that selected
        provenance |= {"seeds": sorted(set(drawn.values())), "shown": len(drawn)}
        base = arguments.results / arguments.tier / f"fairness-{experiment}"
        print("pictures", *style.save(draw(found, provenance), base))
        title = f"# Best of k settings, {experiment}, tier {arguments.tier}\n\n"
        base.with_suffix(".md").write_text(title + markdown(HEADER, compared(rows)))
        print(f"table    {base.with_suffix('.md')}")


def draw(found: dict[str, list[float]], provenance: dict):
    figure, axes = style.plt.subplots(figsize=(5, 3.8))
    for index, (label, values) in enumerate(found.items()):
        ks = range(1, len(values) + 1)
        colour, dash = style.nth(index)
        axes.plot(
            ks, [expected_best(values, k) for k in ks], dash, color=colour, marker=".", label=NAMES.get(label, label)
        )
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="settings tried, k", ylabel="expected best test accuracy of k",
             title=f"the best of k settings, {provenance['experiment']}")  # fmt: skip
    axes.legend(fontsize=7)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    style.stamp(figure, provenance)
    return figure


def compared(rows: list[dict]) -> list[list[str]]:
    """Each optimizer at its own number of settings and at the smallest one."""
    found = grid_scores(rows)
    budget = min((len(values) for values in found.values()), default=0)
    refined = Counter(label for label, _ in {
        (row["label"], row["setting"]) for row in rows if row["stage"] == "refine"})  # fmt: skip
    return [
        [NAMES.get(label, label), str(len(values)), f"{max(values):.4f}", str(budget),
         f"{expected_best(values, budget):.4f}", str(refined[label])]
        for label, values in found.items()
    ]  # fmt: skip


if __name__ == "__main__":
    command(main)
