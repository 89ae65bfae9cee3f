"""Figure 2: SGD and PowerSGD on the 13-layer network on MNIST.

(a) running train accuracy of each epoch, (b) 1-norm of the first layer's stochastic weight gradient, averaged
over the steps of each epoch: for PowerSGD sigma(g), with which it steps, and g itself.
"""

import pandas as pd

from analysis import names, style
from analysis.paper import reference
from analysis.records import curves, last
from analysis.tables import markdown

from .recipe import Figure, verdicts

REPORT = """\
# Figure 2, tier {tier}

{verdicts}![figure 2](figure2.svg)

## Last epoch

Mean over {seeds} seeds; dead units are hidden units (of 12 x 256) that fire for no test image.

{table}"""


def make(epochs: pd.DataFrame, provenance: dict) -> dict:
    text = REPORT.format(tier=provenance["tier"], verdicts=verdicts(provenance),
                         seeds=len(provenance["seeds"]), table=last_epoch_table(epochs))  # fmt: skip
    return {"figure2": draw(epochs, provenance), "figure2.md": text}


def draw(epochs: pd.DataFrame, provenance: dict):
    figure, (accuracy, norm) = style.plt.subplots(1, 2, figsize=(9, 4))
    for index, (_, chosen) in enumerate(epochs.groupby("setting", sort=False)):
        first, (colour, dash) = chosen.iloc[0], style.nth(index)
        label = f"{names.entry(first['entry'])}, lr {first['initial_lr']:g}"
        label += "" if pd.isna(first["gamma"]) else f", γ {first['gamma']:g}"
        style.curves(accuracy, curves(chosen, "train_acc"), label, colour, dash)
        powered = bool(chosen["powered_norm1"].notna().any())
        for column in ["grad_norm1", "powered_norm1"][: 1 + powered]:
            norms(norm, chosen, column, colour, dash, thin=powered and column == "grad_norm1")
    for stated in reference()["figure2"]:
        value = stated["train_acc"]
        style.paper_line(accuracy, value, f"paper, {names.optimizer(stated['optimizer'])}: {100 * value:.2f} %")
    accuracy.set(xlabel="epoch", ylabel="train accuracy (running)", ylim=(0, 1.08), title="(a) train accuracy")
    norm.set(xlabel="epoch", ylabel="1-norm, mean over the epoch", yscale="log")
    norm.set_title("(b) gradient g of the first layer\n(PowerSGD: thick σ(g), thin g)")
    norm.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*accuracy.get_legend_handles_labels(), loc="lower center", ncols=4, bbox_to_anchor=(0.5, 0.07))
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    style.stamp(figure, provenance)
    return figure


def norms(axes, chosen: pd.DataFrame, column: str, colour: str, dash: str, thin: bool) -> None:
    """Mean over the seeds. Where it is exactly 0, which a logarithmic axis cannot show, a thick line has a note."""
    means = chosen.groupby("epoch")[column].mean()
    shown = means[means > 0]
    axes.plot(shown.index, shown, dash, color=colour, linewidth=0.9 if thin else 1.8,
              marker="o" if len(shown) == 1 else "", markersize=3 if thin else 6)  # fmt: skip
    if len(shown) < len(means) and len(shown) and not thin:
        text = f"lr {chosen['initial_lr'].iloc[0]:g}: exactly 0 from epoch {shown.index[-1] + 1} on"
        axes.annotate(text, (shown.index[-1], shown.iloc[-1]), (7, -3), textcoords="offset points", fontsize=8,
                      color=colour)  # fmt: skip


def last_epoch_table(epochs: pd.DataFrame) -> str:
    columns = ["train_acc", "test_acc", "train_loss", "grad_norm1", "powered_norm1"]
    lines = []
    for _, chosen in last(epochs).groupby("setting", sort=False):
        first = chosen.iloc[0]
        means = ["" if chosen[column].isna().all() else f"{chosen[column].mean():.4g}" for column in columns]
        dead = f"{chosen.filter(regex=r'^dead_units_').sum(axis=1).mean():.4g}"
        gamma = "" if pd.isna(first["gamma"]) else f"{first['gamma']:g}"
        each = " ".join(f"{value:.4f}" for value in chosen["train_acc"])
        lines.append([first["entry"], f"{first['initial_lr']:g}", gamma, *means, dead, each])
    return markdown(["optimizer", "lr", "gamma", *columns, "dead units", "each seed's train_acc"], lines)


FIGURES = {"fig2": Figure(__doc__, make, "fig2")}
