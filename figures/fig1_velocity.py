"""Figure 1(a) at the first drop of the learning rate, with it inside the velocity (equation (4)) or outside (torch)."""

import pandas as pd

from analysis import style
from analysis.records import best, curves, only
from analysis.tables import interval, markdown

from .recipe import Figure, missing

FORMS = {"PowerSGDM": ("powersgdm", "powersgdm-outside"), "SGDM": ("sgdm-inside", "sgdm")}  # lr inside, outside
SHOWN = 50, 80  # epochs; the drop is after 60


def make(epochs: pd.DataFrame, provenance: dict) -> dict:
    title = f"# The learning rate's first drop, tier {provenance['tier']}"
    return {
        "figure1a_velocity": draw(epochs, provenance),
        "figure1ab_velocity.md": f"{title}\n\n{table(epochs)}{missing(provenance)}",
    }


def draw(epochs: pd.DataFrame, provenance: dict):
    """A panel for each method: mean train accuracy around the drop, a curve for each form."""
    figure, panels = style.plt.subplots(1, 2, figsize=(7, 3.6), sharey=True, layout="constrained")
    for axes, (method, labels) in zip(panels, FORMS.items(), strict=True):
        for index, label in enumerate(labels):
            colour, dash = style.nth(index)
            name = "lr inside the velocity" if index == 0 else "lr outside"
            if found := curves(only(epochs, label=label), "train_acc"):
                style.curves(axes, found, name, colour, dash)
        axes.set(xlim=SHOWN, ylim=(0.3, 1), xlabel="epoch", title=method)  # bands are wide in the first epochs
        axes.legend(fontsize=8, loc="lower right")
    panels[0].set_ylabel("train accuracy (running)")
    figure.suptitle("lr drops after epoch 60: ResNet-50 on CIFAR-10" + style.reduced(provenance), fontsize=10)
    style.stamp(figure, provenance)
    return figure


def table(epochs: pd.DataFrame) -> str:
    """Train accuracy before and after the drop, and the best test accuracy, over the seeds."""
    lines = []
    for method, labels in FORMS.items():
        for form, label in zip(("inside", "outside"), labels, strict=True):
            runs = only(epochs, label=label)
            if runs.empty:
                continue
            at = [interval(only(runs, epoch=epoch)["train_acc"]) for epoch in (60, 61, 65)]
            lines.append([method, form, str(runs["run"].nunique()), *at, interval(best(runs, "test_acc")["test_acc"])])
    header = ["optimizer", "lr and velocity", "seeds", "train accuracy, epoch 60", "61", "65", "best test accuracy"]
    return markdown(header, lines)


FIGURES = {"fig1ab_velocity": Figure(__doc__, make, "fig1ab_velocity", "laptop")}
