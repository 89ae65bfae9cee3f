"""Was figure 4's rule right to end runs early? Its ten dead and ten trained cells over all their epochs.

python -m figures.fig4_rule [--tier paper] [--results results] [--redraw]
"""

from analysis.records import collect_rows, command, options
from analysis.tables import markdown

from .fig4 import SUCCESS


def main() -> None:
    arguments = options(__doc__, "paper").parse_args()
    path = arguments.results / arguments.tier / "figure4_rule.md"
    rows, provenance = collect_rows(arguments.results, arguments.tier, "fig4_rule", arguments.redraw)
    text = table(rows)
    missing = f"\n{len(provenance['missing'])} runs are missing.\n" if provenance["missing"] else ""
    path.write_text(f"# Figure 4's rule, tier {arguments.tier}\n\n{text}{missing}")
    print(text)
    print(f"table    {path}")


def table(rows: list[dict]) -> str:
    """A line a cell: when the rule would have ended it, and whether the rest of the run agrees."""
    lines = []
    for label in dict.fromkeys(row["label"] for row in rows):
        run = sorted((row for row in rows if row["label"] == label), key=lambda row: row["epoch"])
        first, (kind, epoch) = run[0], verdict(run)
        after = run[epoch:]
        if kind == "trained":
            agrees = run[-1]["train_acc"] >= SUCCESS
        else:
            agrees = all(row["train_acc"] < SUCCESS and row["grad_norm1"] == 0 for row in after)
        lines.append([
            str(first["depth"]), f"{first['initial_lr']:g}", f"{first['gamma']:g}", f"{kind} in {epoch}",
            str(len(after)), f"{max(row['train_acc'] for row in run):.4f}", f"{run[-1]['train_acc']:.4f}",
            "yes" if agrees else "no",
        ])  # fmt: skip
    header = ["depth", "lr", "gamma", "the rule", "epochs after it", "best train accuracy", "last", "agrees at the end"]
    return markdown(header, lines)


def verdict(run: list[dict]) -> tuple[str, int]:
    """What the rule says of a whole run, and in which epoch: trained, dead, or neither at its end."""
    for row in run:
        if row["train_acc"] >= SUCCESS:
            return "trained", row["epoch"]
        if row["grad_norm1"] == 0:
            return "dead", row["epoch"]
    return "neither", run[-1]["epoch"]


if __name__ == "__main__":
    command(main)
