"""Strict and fast numerics: test accuracy of the same settings from the same seeds, ResNet-50 on CIFAR-10."""

import pandas as pd

from analysis import names, style
from analysis.records import curves

from . import fig7
from .recipe import Figure, missing


def make(epochs: pd.DataFrame, provenance: dict) -> dict:
    text = f"# Strict and fast numerics, tier {provenance['tier']}\n\n{fig7.table(epochs)}{missing(provenance)}"
    return {"numerics": draw(epochs, provenance), "numerics.md": text}


def draw(epochs: pd.DataFrame, provenance: dict):
    figure, axes = style.plt.subplots(figsize=(6, 4.3))
    for index, (entry, chosen) in enumerate(epochs.groupby("entry", sort=False)):
        style.curves(axes, curves(chosen, "test_acc"), names.entry(str(entry)), *style.nth(index))
    task = names.task(epochs["model"].iloc[0], epochs["dataset"].iloc[0])
    axes.set(xlabel="epoch", ylabel="test accuracy", title=f"{task}{style.reduced(provenance)}: two numerics")
    axes.legend()
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    style.stamp(figure, provenance)
    return figure


FIGURES = {"numerics": Figure(__doc__, make, "numerics")}
