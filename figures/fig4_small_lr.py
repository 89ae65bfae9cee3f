"""Figure 4's open question: do 15 layers train at a much smaller learning rate? The same rule, as a table.

python -m figures.fig4_small_lr [--tier paper] [--results results] [--redraw]
"""

from analysis.records import collect_rows, command, options
from analysis.tables import markdown

from .fig4 import outcomes, summary


def main() -> None:
    arguments = options(__doc__, "paper").parse_args()
    path = arguments.results / arguments.tier / "figure4_small_lr.md"
    rows, provenance = collect_rows(arguments.results, arguments.tier, "fig4_small_lr", arguments.redraw)
    cells = outcomes(rows)
    text = f"# 15 layers at small learning rates, tier {arguments.tier}\n\n{summary(cells)}\n{table(cells)}"
    text += f"\n{len(provenance['missing'])} runs are missing.\n" if provenance["missing"] else ""
    path.write_text(text)
    print(text)
    print(f"table    {path}")


def table(cells: list[dict]) -> str:
    lines = [[f"{c['lr']:g}", f"{c['gamma']:g}", str(c["seed"]), f"{c['ended']} in {c['epochs']}",
              f"{c['best_train_acc']:.4f}", f"{c['last_test_acc']:.4f}"] for c in cells]  # fmt: skip
    return markdown(["lr", "gamma", "seed", "ended", "best train accuracy", "last test accuracy"], lines)


if __name__ == "__main__":
    command(main)
