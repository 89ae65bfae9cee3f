"""Beside figure 4: how much PowerSGD amplifies each layer's gradient, over the first epoch, by depth and gamma.

The ratio of the 2-norms of sigma(g) and g of each layer's weights, averaged over the steps of the epoch.
"""

import pandas as pd

from analysis import style
from analysis.records import only
from analysis.tables import markdown

from .recipe import Figure


def make(epochs: pd.DataFrame, provenance: dict) -> dict:
    first = epochs[epochs["epoch"] == 1]
    text = f"# Amplification by layer, tier {provenance['tier']}\n\n{table(first)}"
    return {"figure4_layers": draw(first, provenance), "figure4_layers.md": text}


def amplification(rows: pd.DataFrame, layer: int) -> float:
    """Mean over the runs; NaN if the layer's gradient was 0 in every step of all of them."""
    return rows[f"amplification_{layer}"].mean()


def draw(rows: pd.DataFrame, provenance: dict):
    lrs, gammas, depths = provenance["axes"].values()
    figure, panels = style.plt.subplots(len(lrs), len(gammas), figsize=(2.2 * len(gammas), 2.2 * len(lrs) + 0.9),
                                        sharex=True, sharey=True, squeeze=False)  # fmt: skip
    for line, lr in zip(panels, lrs[::-1], strict=True):
        for axes, gamma in zip(line, gammas, strict=True):
            for index, depth in enumerate(depths):
                chosen = only(rows, initial_lr=lr, gamma=gamma, depth=depth)
                points = pd.Series({layer: amplification(chosen, layer) for layer in range(1, depth + 1)}).dropna()
                colour, dash = style.nth(index)
                axes.plot(points.index, points, dash, color=colour, marker=".", markersize=4, label=f"{depth} layers")
            axes.set(yscale="log", title=f"γ {gamma:g}, lr {lr:g}")
    for axes in panels[-1]:
        axes.set_xlabel("layer")
    for axes in panels[:, 0]:
        axes.set_ylabel("‖σ(g)‖ / ‖g‖")
    figure.suptitle("How much PowerSGD amplifies each layer's gradient in the first epoch, by depth", fontsize=10)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="lower center", ncols=4, bbox_to_anchor=(0.5, 0.03))
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    style.stamp(figure, provenance)
    return figure


def table(rows: pd.DataFrame) -> str:
    """First, middle and last layer of each setting, and the train accuracy of the first epoch."""
    lines = []
    ordered = rows.sort_values(["initial_lr", "gamma", "depth"], ascending=[False, True, True], kind="stable")
    for _, chosen in ordered.groupby("setting", sort=False):
        first, depth = chosen.iloc[0], chosen["depth"].iloc[0]
        values = [amplification(chosen, layer) for layer in (1, depth // 2, depth)]
        cells = ["all zero" if pd.isna(value) else f"{value:.3g}" for value in values]
        accuracies = " ".join(f"{value:.3f}" for value in chosen["train_acc"])
        lines.append([f"{first['initial_lr']:g}", f"{first['gamma']:g}", str(depth), *cells, accuracies])
    header = ["lr", "gamma", "depth", "layer 1", "middle layer", "last layer", "train accuracy of each seed, epoch 1"]
    return markdown(header, lines)


FIGURES = {"fig4_layers": Figure(__doc__, make, "fig4_layers")}
