"""Figure 6: train loss of ResNet-50 on CIFAR-10 by gamma, curves at each lr and a heatmap of the best.

python -m figures.fig6 [--tier laptop] [--results results] [--redraw]
"""

import math
from statistics import mean

import numpy as np

from analysis import style
from analysis.records import best, by_seed, collect_rows, command, options, select
from runs.table import write as write_table

GUESSING = math.log(10)  # the loss of equal probabilities for ten classes


def main() -> None:
    arguments = options(__doc__, "laptop").parse_args()
    base = arguments.results / arguments.tier / "figure6"
    rows, provenance = collect_rows(arguments.results, arguments.tier, "fig6", arguments.redraw)
    found = cells(rows)
    write_table(base.with_suffix(".csv"), found)
    print("pictures", *style.save(draw(rows, found, provenance), base))
    print(f"table    {base.with_suffix('.csv')}")


def cells(rows: list[dict]) -> list[dict]:
    """A row for each optimizer, lr and gamma: the lowest train loss (running, of an epoch), mean over the seeds."""
    settings = {(row["optimizer"], row["initial_lr"], row["gamma"]) for row in rows}
    found = []
    for optimizer, lr, gamma in sorted(settings, key=lambda s: (s[0] != "powersgd", s[0], -s[1], s[2] or 0)):
        runs = best(select(rows, optimizer=optimizer, initial_lr=lr, gamma=gamma), "train_loss", lowest)
        found.append({"optimizer": optimizer, "lr": lr, "gamma": gamma, "seeds": len(runs),
                      "best_train_loss": mean(runs)})  # fmt: skip
    return found


def lowest(losses: list[float]) -> float:
    """At most the loss of guessing: what did not learn, or diverged in its first epoch, is all alike."""
    return min([loss for loss in losses if math.isfinite(loss)] + [GUESSING])


def draw(rows: list[dict], found: list[dict], provenance: dict):
    lrs, entries = provenance["axes"]["initial_lr"][::-1], provenance["entries"]
    columns = min(len(lrs) + 1, 5)
    lines = -(-(len(lrs) + 1) // columns)
    figure, panels = style.plt.subplots(lines, columns, figsize=(2.7 * columns, 0.6 + 3.5 * lines))
    *curves, heat = style.listed(panels)[: len(lrs) + 1]
    for axes in style.listed(panels)[len(lrs) + 1 :]:
        axes.set_axis_off()
    colours = style.plt.get_cmap("viridis")(np.linspace(0, 0.92, len(entries)))
    for axes, lr in zip(curves, lrs, strict=True):
        for (label, gamma), colour in zip(entries, colours, strict=True):
            chosen = select(rows, label=label, initial_lr=lr, gamma=gamma)
            if chosen:
                style.curves(axes, list(by_seed(chosen, "train_loss").values()), named(label, gamma), colour,
                             "-" if "powersgd" in label else "--")  # fmt: skip
        axes.set(title=f"lr {lr:g}", xlabel="epoch")
        if axes is not curves[0]:
            axes.sharey(curves[0])
    curves[0].set_yscale("log")
    curves[0].set_ylim(top=min(curves[0].get_ylim()[1], 2 * GUESSING))  # a first epoch may lie far above
    style.log_axis(curves[0].yaxis)
    for axes in style.listed(panels)[::columns]:
        axes.set_ylabel("train loss (running)")
    shown = {label: line for axes in curves for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    order = [named(*entry) for entry in entries if named(*entry) in shown]
    figure.legend([shown[label] for label in order], order, loc="lower center", ncols=9, fontsize=7,
                  bbox_to_anchor=(0.5, 0.03))  # fmt: skip
    losses = {(c["optimizer"], c["lr"], c["gamma"]): c["best_train_loss"] for c in found}  # dark is low
    optimizers = {row["label"]: row["optimizer"] for row in rows}
    cells = [[losses.get((optimizers.get(label), lr, gamma)) for lr in lrs] for label, gamma in entries]
    grid = [[None if loss is None else -loss for loss in line] for line in cells]
    style.heatmap(heat, grid, -GUESSING, -min(losses.values()), lambda loss: f"{-loss:.2f}")
    heat.set_xticklabels([f"{lr:g}" for lr in lrs], rotation=45 if len(lrs) > 5 else 0)
    heat.set_yticklabels([named(*entry) for entry in entries])
    heat.set(title="best train loss", xlabel="learning rate")
    figure.suptitle("ResNet-50 on CIFAR-10" + style.reduced(provenance), fontsize=9)
    figure.tight_layout(rect=(0, 0.12 / lines, 1, 1))
    style.stamp(figure, provenance)
    return figure


def named(label: str, gamma: float | None) -> str:
    return f"γ {gamma:g}" if label.endswith("powersgd") else style.row_name(label, gamma)


if __name__ == "__main__":
    command(main)
