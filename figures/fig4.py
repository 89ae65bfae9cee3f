"""Figure 4: which depths train, by gamma and lr. Heatmaps of the share of seeds whose network trained.

The rule stands in configs/experiment/fig4.yaml: a cell succeeded when the running train accuracy of some epoch
within 25 reaches 0.90.

    python -m figures.fig4 [--tier paper] [--results results] [--redraw]
"""

from analysis import style
from analysis.claims.judge import as_markdown, judge
from analysis.records import collect_rows, command, options, select
from analysis.tables import markdown
from runs.table import write as write_table

SUCCESS = 0.90  # of fig4.yaml, whose runs end there


def main() -> None:
    arguments = options(__doc__, "paper").parse_args()
    base = arguments.results / arguments.tier / "figure4"
    rows, provenance = collect_rows(arguments.results, arguments.tier, "fig4", arguments.redraw)
    cells = outcomes(rows)
    write_table(base.with_suffix(".csv"), cells)
    pictures = style.save(draw(cells, provenance), base)
    verdicts = as_markdown(judge(arguments.results, arguments.tier, "fig4"))
    text = f"# Figure 4, tier {arguments.tier}\n\n{verdicts}\n![figure 4](figure4.svg)\n\n{summary(cells)}"
    base.with_suffix(".md").write_text(text)
    print(summary(cells))
    print("pictures", *pictures)
    print(f"table    {base.with_suffix('.csv')} {base.with_suffix('.md')}")


def outcomes(rows: list[dict]) -> list[dict]:
    """A row a run: whether it succeeded, and how and when it ended."""
    runs: dict[str, list[dict]] = {}
    for row in rows:
        runs.setdefault(row["run"], []).append(row)
    cells = []
    for run in runs.values():
        accuracies, last = [row["train_acc"] for row in run], run[-1]
        cell = {key: last[key] for key in ("label", "depth", "gamma", "initial_lr", "seed")}
        cell = {"lr" if key == "initial_lr" else key: value for key, value in cell.items()}
        cell |= {"succeeded": max(accuracies) >= SUCCESS, "ended": ending(last), "epochs": len(run)}
        cell |= {"best_train_acc": max(accuracies), "last_train_acc": accuracies[-1], "last_test_acc": last["test_acc"]}
        cells.append(cell | {"run": last["run"]})
    return sorted(cells, key=lambda c: (c["label"] != "powersgd", c["depth"], c["gamma"] or 0, -c["lr"], c["seed"]))


def ending(last: dict) -> str:
    if not abs(last["train_loss"]) < float("inf"):  # nan too
        return "diverged"
    if last["train_acc"] >= SUCCESS:
        return "succeeded"
    return "dead" if last["grad_norm1"] == 0 else "all epochs"


def share(cells: list[dict], **where) -> float | None:
    """The share of seeds that succeeded in one cell; None if it was not run."""
    chosen = [cell["succeeded"] for cell in cells if all(cell[key] == value for key, value in where.items())]
    return sum(chosen) / len(chosen) if chosen else None


def draw(cells: list[dict], provenance: dict):
    """A panel a depth; a row a gamma, and above them the rows of other optimizers that joined."""
    lrs, _, depths = provenance["axes"].values()
    entries = provenance["entries"]
    figure, panels = style.plt.subplots(1, len(depths), figsize=(2.6 * len(depths) + 0.6, 4.6), sharey=True)
    for axes, depth in zip(style.listed(panels), depths, strict=True):
        values = [[share(cells, depth=depth, label=label, gamma=gamma, lr=lr) for lr in lrs[::-1]]
                  for label, gamma in entries]  # fmt: skip
        style.heatmap(axes, values, low=0, high=1, shown=lambda value: "" if value in (0, 1) else f"{value:.2f}")
        axes.set_xticklabels([f"{lr:g}" for lr in lrs[::-1]])
        axes.set_yticklabels([style.row_name(*entry) for entry in entries])
        axes.set(title=f"{depth} layers", xlabel="learning rate")
    style.listed(panels)[0].set_ylabel("γ   (1 is SGD)" if any(label == "powersgd" for label, _ in entries) else "")
    figure.suptitle(
        f"dark: trained (train accuracy {SUCCESS:.0%} within 25 epochs); light: not; hatched: not run", fontsize=8
    )
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    style.stamp(figure, provenance)
    return figure


def summary(cells: list[dict]) -> str:
    """For each depth: how many settings of each optimizer trained, and which. PowerSGD with gamma 1 is SGD."""
    lines = []
    for depth in sorted({cell["depth"] for cell in cells}):
        groups: dict[str, list[dict]] = {"SGD (γ 1)": [], "PowerSGD (γ < 1)": []}
        for cell in select(cells, depth=depth):
            name = ("SGD (γ 1)" if cell["gamma"] == 1 else "PowerSGD (γ < 1)") if cell["label"] == "powersgd" else ""
            groups.setdefault(name or cell["label"], []).append(cell)
        for name, chosen in groups.items():
            if not chosen:
                continue
            settings = dict.fromkeys((cell["lr"], cell["gamma"]) for cell in chosen)
            shares = {s: share(chosen, lr=s[0], gamma=s[1]) for s in settings}
            trained = [
                f"lr {lr:g}" + ("" if g is None else f" γ {g:g}") + ("" if part == 1 else f" ({part:.2f} of seeds)")
                for (lr, g), part in shares.items() if part
            ]  # fmt: skip
            ends = {end: sum(cell["ended"] == end for cell in chosen) for end in ("dead", "diverged", "all epochs")}
            lines.append([
                str(depth), name, f"{sum(part == 1 for part in shares.values())} of {len(shares)}",
                "; ".join(trained), *(str(count) for count in ends.values()),
            ])  # fmt: skip
    header = ["layers", "optimizer", "settings that trained (every seed)", "which trained", "runs dead", "diverged",
              "neither after all epochs"]  # fmt: skip
    return markdown(header, lines)


if __name__ == "__main__":
    command(main)
