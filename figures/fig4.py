"""Figure 4: which depths train, by gamma and lr. Heatmaps of the share of seeds whose network trained.

A cell succeeded when the running train accuracy of some epoch reaches `stop.success` of the experiment.
"""

import functools
import textwrap

import numpy as np
import pandas as pd

from analysis import style
from analysis.paper import reference
from analysis.records import NoRecords, best, last
from analysis.tables import markdown

from . import grid
from .recipe import Figure, missing, verdicts


def make(stem: str, title: str, epochs: pd.DataFrame, provenance: dict) -> dict:
    success = provenance["shared"].get("stop.success")
    if success is None:
        raise NoRecords(f"{provenance['experiment']} has no stop.success that all its runs share, which is the rule")
    cells = outcomes(epochs, success)
    text = f"# {title}, tier {provenance['tier']}\n\n{verdicts(provenance)}![{stem}]({stem}.svg)\n\n"
    table = cells.rename(columns={"initial_lr": "lr"}).drop(columns=["label", "setting"])
    return {
        stem: draw(cells, provenance, title),
        f"{stem}.csv": table.rename(columns={"entry": "label"}),
        f"{stem}.md": text + summary(cells) + missing(provenance),
    }


def outcomes(epochs: pd.DataFrame, success: float) -> pd.DataFrame:
    """A row for each run: whether it succeeded, and how and when it ended."""
    ends, most = last(epochs), best(epochs, "train_acc")
    about = ["entry", "depth", "gamma", "initial_lr", "seed"]
    cells = ends[["label", "setting", *about]].reset_index(drop=True)
    cells["succeeded"] = (most["train_acc"] >= success).to_numpy()
    cells["ended"] = [ending(row, success) for row in ends.itertuples()]
    cells["epochs"] = ends["epoch"].to_numpy()
    cells["best_train_acc"] = most["train_acc"].to_numpy()
    cells["last_train_acc"] = ends["train_acc"].to_numpy()
    cells["last_test_acc"] = ends["test_acc"].to_numpy()
    cells["run"] = ends["run"].to_numpy()
    keys = {"other": cells["label"] != "powersgd", "depth": cells["depth"], "gamma": cells["gamma"].fillna(0),
            "lr": -cells["initial_lr"], "seed": cells["seed"]}  # fmt: skip
    return cells.loc[pd.DataFrame(keys).sort_values([*keys], kind="stable").index]


def ending(end, success: float) -> str:
    if not np.isfinite(end.train_loss):
        return "diverged"
    if end.train_acc >= success:
        return "succeeded"
    return "dead" if end.grad_norm1 == 0 else "all epochs"


def draw(cells: pd.DataFrame, provenance: dict, title: str = ""):
    """A panel for each depth that was run; a row for each gamma, and above them the rows of other optimizers.

    Colour: the train accuracy reached. An orange frame: it trained where the paper says that nothing trains.
    """
    lrs = provenance["axes"]["initial_lr"][::-1]
    rows, shared, paper = provenance["entries"], provenance["shared"], reference()["figure4"]
    depths = sorted(cells["depth"].unique())
    size = (min(2.5 * len(depths) + 2, 11), 1.9 + 0.27 * max(len(rows), 5))
    figure, panels = style.plt.subplots(1, len(depths), figsize=size, sharey=True, layout="constrained")
    panels = style.listed(panels)
    named = functools.partial(grid.row_name, alone=len({gamma for _, gamma in rows}) == 1)
    hatched = against = False
    for axes, depth in zip(panels, depths, strict=True):
        part = cells[cells["depth"] == depth]
        reached = grid.values(part, "best_train_acc", rows, lrs)
        shares = grid.values(part, "succeeded", rows, lrs)
        mesh = grid.panel(axes, reached, rows, lrs, 0, 1,
                          lambda row, column, shares=shares, reached=reached: mark(shares, reached, row, column),
                          named)  # fmt: skip
        hatched |= bool(np.isnan(reached).any())
        if depth == paper["nothing_trains"]:
            against |= frames(axes, shares, rows)
        trained = f"{int((shares > 0).sum())} of {int(np.isfinite(shares).sum())} trained"
        axes.set(xlabel="learning rate")
        axes.set_title(f"{depth} layers: {trained}", fontsize=9)
    if any(entry == "powersgd" for entry, _ in rows):
        panels[0].set_ylabel("PowerSGD's γ" + " (1 is SGD)" * (("powersgd", 1.0) in rows))
    rule = f"✓ trained: train accuracy {shared['stop.success']:.0%} within {shared['epochs']} epochs; else its best, %"
    notes = [rule, *["hatched: not run"] * hatched, *["orange: the paper says nothing trains here"] * against]
    figure.suptitle("\n".join([title, *textwrap.wrap("; ".join(notes), int(13 * size[0]))]).strip(), fontsize=9)
    style.scale(figure, mesh, panels, "train accuracy reached")
    style.stamp(figure, provenance)
    return figure


def mark(shares: np.ndarray, reached: np.ndarray, row: int, column: int) -> str:
    """A cell's text: trained in every seed, in a share of them, or the train accuracy it reached, in percent."""
    share = shares[row, column]
    return "✓" if share == 1 else f"{share:.0%} ✓" if share else str(int(100 * reached[row, column]))


def frames(axes, shares: np.ndarray, rows: list[grid.Row]) -> bool:
    """Frame PowerSGD's cells that trained; returns whether there were any."""
    found = [(row, column) for row, column in np.argwhere(shares > 0) if rows[row][0] == "powersgd"]
    for row, column in found:
        axes.add_patch(style.plt.Rectangle((column + 0.04, row + 0.04), 0.92, 0.92, fill=False, edgecolor="#E69F00",
                                           linewidth=2))  # fmt: skip
    return bool(found)


def summary(cells: pd.DataFrame) -> str:
    """For each depth, how many settings of each optimizer trained, and which. PowerSGD with gamma 1 is SGD."""
    cells = cells.assign(group=[group(cell) for cell in cells.itertuples()])
    lines = []
    for depth, layer in cells.groupby("depth"):
        for name in sorted(layer["group"].unique(), key=lambda name: not name.startswith("SGD (")):
            chosen = layer[layer["group"] == name]
            found = chosen.groupby("setting", sort=False).agg(
                lr=("initial_lr", "first"), gamma=("gamma", "first"), share=("succeeded", "mean")
            )
            trained = [
                f"lr {one.lr:g}" + ("" if np.isnan(one.gamma) else f" γ {one.gamma:g}")
                + ("" if one.share == 1 else f" ({one.share:.2f} of seeds)")
                for one in found[found["share"] > 0].itertuples()
            ]  # fmt: skip
            ends = [str((chosen["ended"] == end).sum()) for end in ("dead", "diverged", "all epochs")]
            lines.append(
                [str(depth), name, f"{(found['share'] == 1).sum()} of {len(found)}", "; ".join(trained), *ends]
            )
    header = ["layers", "optimizer", "settings that trained (every seed)", "which trained", "runs dead", "diverged",
              "neither after all epochs"]  # fmt: skip
    return markdown(header, lines)


def group(cell) -> str:
    if cell.label != "powersgd":
        return cell.entry
    return ("SGD (γ 1)" if cell.gamma == 1 else "PowerSGD (γ < 1)") + cell.entry.removeprefix(cell.label)


def figure(stem: str, experiment: str, title: str, about: str | None) -> Figure:
    return Figure(about, functools.partial(make, stem, title), experiment)


FIGURES = {
    "fig4": figure("figure4", "fig4", "Figure 4: which depths train", __doc__),
    "fig4_controls": figure(
        "figure4_controls", "fig4_controls", "Figure 4's question to SGD with longer steps",
        "Figure 4 for SGD with longer steps along the gradient: is one longer step for all layers enough? Same rule.",
    ),
    "fig4_tensorwise": figure(
        "figure4_tensorwise", "fig4_tensorwise", "Figure 4's question to the length of each tensor's step",
        "Figure 4 for steps of PowerSGD's length for each parameter tensor: is it the direction, or the lengths?",
    ),
    "fig4_small_lr": figure(
        "figure4_small_lr", "fig4_small_lr", "15 layers at small learning rates",
        "Figure 4's open question: do 15 layers train at a much smaller learning rate? The same rule.",
    ),
    "fig4_sgd": figure(
        "figure4_sgd", "fig4_sgd", "How deep plain SGD trains",
        "Figure 4 for plain SGD from 8 layers on: what do the inputs' scale and the initialisation change?",
    ),
    "fig4_sgd_batch32": figure(
        "figure4_sgd_batch32", "fig4_sgd_batch32", "Plain SGD with batches of 32",
        "Figure 4 for plain SGD with batches of 32, which is four times the steps.",
    ),
    "fig4_sgd_long": figure(
        "figure4_sgd_long", "fig4_sgd_long", "Plain SGD for 100 epochs",
        "Figure 4 for plain SGD over 100 epochs: a plateau or a failure?",
    ),
    "fig4_exploding": figure(
        "figure4_exploding", "fig4_exploding", "Exploding gradients, 13 layers",
        "Figure 4 for He's initialisation times 2, whose gradients explode: does PowerSGD help there, too?",
    ),
    "fig4_normalised": figure(
        "figure4_normalised", "fig4_normalised", "Figure 4 with normalised inputs",
        "Figure 4 for PowerSGD with normalised inputs: do 15 layers train under that reading of the paper's setup?",
    ),
}  # fmt: skip
