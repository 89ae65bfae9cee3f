"""Figure 6: train loss of ResNet-50 on CIFAR-10 by gamma, curves at each lr and a heatmap of the best.

python -m figures.fig6 [--tier laptop] [--results results] [--redraw]
"""

import math
from statistics import mean

import numpy as np

from . import style
from .records import best, by_seed, collect, command, options, select, write_table


def main() -> None:
    arguments = options(__doc__, "laptop").parse_args()
    base = arguments.results / arguments.tier / "figure6"
    rows, provenance = collect(arguments.results, arguments.tier, "fig6", arguments.redraw)
    found = cells(rows)
    write_table(base.with_suffix(".csv"), found)
    print("pictures", *style.save(draw(rows, found, provenance), base))
    print(f"table    {base.with_suffix('.csv')}")


def cells(rows: list[dict]) -> list[dict]:
    """A row for each gamma and lr: the lowest train loss (running, of an epoch), mean over the seeds."""
    settings = sorted({(row["initial_lr"], row["gamma"]) for row in rows}, key=lambda s: (-s[0], s[1]))
    found = []
    for lr, gamma in settings:
        runs = best(select(rows, initial_lr=lr, gamma=gamma), "train_loss", lowest)
        found.append({"lr": lr, "gamma": gamma, "seeds": len(runs), "best_train_loss": mean(runs)})
    return found


def lowest(losses: list[float]) -> float:
    """Of a run that diverges in its first epoch there is none: infinity."""
    return min((loss for loss in losses if math.isfinite(loss)), default=math.inf)


def draw(rows: list[dict], found: list[dict], provenance: dict):
    lrs, gammas = provenance["axes"]["initial_lr"][::-1], provenance["axes"]["gamma"]
    figure, panels = style.plt.subplots(1, len(lrs) + 1, figsize=(2.7 * (len(lrs) + 1), 3.8))
    *curves, heat = style.listed(panels)
    colours = style.plt.get_cmap("viridis")(np.linspace(0, 0.92, len(gammas)))
    for axes, lr in zip(curves, lrs, strict=True):
        for gamma, colour in zip(gammas, colours, strict=True):
            series = list(by_seed(select(rows, initial_lr=lr, gamma=gamma), "train_loss").values())
            if series:
                style.curves(axes, series, f"γ {gamma:g}", colour)
        axes.set(title=f"lr {lr:g}", xlabel="epoch", yscale="log")
    curves[0].set_ylabel("train loss (running)")
    figure.legend(*curves[0].get_legend_handles_labels(), loc="lower center", ncols=len(gammas), fontsize=7,
                  bbox_to_anchor=(0.5, 0.03))  # fmt: skip
    # Dark is low; what did not learn is all alike, so the colours stop at the loss of guessing.
    losses = {(c["lr"], c["gamma"]): min(c["best_train_loss"], math.log(10)) for c in found}
    grid = [[None if (lr, g) not in losses else -losses[lr, g] for lr in lrs] for g in gammas]
    style.heatmap(heat, grid, -math.log(10), -min(losses.values()), lambda loss: f"{-loss:.2g}")
    heat.set_xticklabels([f"{lr:g}" for lr in lrs])
    heat.set_yticklabels([f"γ {gamma:g}" for gamma in gammas])
    heat.set(title="best train loss", xlabel="learning rate")
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    style.stamp(figure, provenance)
    return figure


if __name__ == "__main__":
    command(main)
