"""What was tried to make figure 2's caption (PowerSGD, lr 0.1) train: a table from the runs of fig2_caption.

python -m figures.fig2_caption [--tier paper] [--results results] [--redraw]
"""

import argparse
from pathlib import Path

from .records import collect, command, read_table, write_table
from .tables import markdown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tier", default="paper")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent.parent / "results")
    parser.add_argument("--redraw", action="store_true", help="from the table that is there, not from the runs")
    arguments = parser.parse_args()
    path = arguments.results / arguments.tier / "figure2_caption.csv"
    if not arguments.redraw:
        rows, _ = collect(arguments.results, arguments.tier, "fig2_caption")
        write_table(path, rows)
    header = ["what", "lr", "gamma", "init", "best train accuracy of each seed", "ends"]
    table = markdown(header, tried(read_table(path)))
    path.with_suffix(".md").write_text(f"# Figure 2's caption, varied, tier {arguments.tier}\n\n{table}")
    print(table)
    print(f"table {path} {path.with_suffix('.md')}")


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
