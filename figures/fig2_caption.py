"""What was tried to make figure 2's caption (PowerSGD, lr 0.1) train: a table from the runs of fig2_caption.

python -m figures.fig2_caption [--tier paper] [--results results] [--redraw]
"""

from analysis.records import collect_rows, command, options
from analysis.tables import markdown


def main() -> None:
    arguments = options(__doc__, "paper").parse_args()
    path = arguments.results / arguments.tier / "figure2_caption.md"
    rows, _ = collect_rows(arguments.results, arguments.tier, "fig2_caption", arguments.redraw)
    header = ["what", "lr", "gamma", "init", "best train accuracy of each seed", "ends"]
    table = markdown(header, tried(rows))
    path.write_text(f"# Figure 2's caption, varied, tier {arguments.tier}\n\n{table}")
    print(table)
    print(f"table {path}")


def tried(rows: list[dict]) -> list[list[str]]:
    """A line for each setting: how far each seed came, and whether its first layer's gradient became exactly 0."""
    lines = []
    for setting in dict.fromkeys((r["label"], r["lr"], r["gamma"], r["init"]) for r in rows):
        runs: dict[int, list[dict]] = {}
        for row in rows:
            if (row["label"], row["lr"], row["gamma"], row["init"]) == setting:
                runs.setdefault(row["seed"], []).append(row)
        best = " ".join(f"{max(row['train_acc'] for row in run):.4f}" for run in runs.values())
        label, lr, gamma, init = setting
        lines.append([label, f"{lr:g}", f"{gamma:g}", init, best, " ".join(_end(run) for run in runs.values())])
    return lines


def _end(run: list[dict]) -> str:
    last = run[-1]
    if last["train_loss"] != last["train_loss"] or last["train_loss"] == float("inf"):
        return f"diverged in {last['epoch']}"
    return f"dead in {last['epoch']}" if last["grad_norm1"] == 0 else f"alive at {last['epoch']}"


if __name__ == "__main__":
    command(main)
