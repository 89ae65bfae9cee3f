"""Figure 4 for SGD with longer steps along the gradient: is it the power, or only a larger step? The same rule.

python -m figures.fig4_controls [--tier paper] [--results results] [--redraw]
"""

from analysis import style
from analysis.claims.judge import as_markdown, judge
from analysis.records import collect_rows, command, options

from .fig4 import draw, outcomes, summary


def main() -> None:
    arguments = options(__doc__, "paper").parse_args()
    base = arguments.results / arguments.tier / "figure4_controls"
    rows, provenance = collect_rows(arguments.results, arguments.tier, "fig4_controls", arguments.redraw)
    table = summary(outcomes(rows))
    pictures = style.save(draw(outcomes(rows), provenance), base)
    verdicts = as_markdown(judge(arguments.results, arguments.tier, "fig4_controls"))
    title = f"# Figure 4's question to SGD with longer steps, tier {arguments.tier}"
    base.with_suffix(".md").write_text(f"{title}\n\n{verdicts}\n![controls](figure4_controls.svg)\n\n{table}")
    print(table)
    print("pictures", *pictures)
    print(f"table    {base.with_suffix('.md')}")


if __name__ == "__main__":
    command(main)
