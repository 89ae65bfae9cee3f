"""Figure 3: how much the Powerball function amplifies a gradient component, |g|^(gamma - 1). Computed, not trained."""

import numpy as np
import pandas as pd
import torch

from analysis import style
from optimizers import powerball

from .recipe import Figure

GAMMAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SIZES = np.logspace(-6, 1, 141)


def make() -> dict:
    rows = table()
    return {"figure3": draw(rows), "figure3.csv": rows}


def table() -> pd.DataFrame:
    """The ratio at each size and gamma, from the function that the optimizer itself uses."""
    sizes = torch.from_numpy(SIZES)
    ratios = [pd.DataFrame({"size": SIZES, "gamma": gamma, "amplification": (powerball(sizes, gamma) / sizes).numpy()})
              for gamma in GAMMAS]  # fmt: skip
    return pd.concat(ratios, ignore_index=True)


def draw(rows: pd.DataFrame):
    figure, axes = style.plt.subplots(figsize=(5, 3.6))
    for index, (gamma, chosen) in enumerate(rows.groupby("gamma")):
        points = chosen["size"], chosen["amplification"]
        axes.plot(*points, style.DASHES[index % 4], color=style.COLOURS[index], label=f"γ {gamma:g}")
    axes.set(xscale="log", yscale="log", xlabel="size of a gradient component |g|", ylabel="amplification |g|$^{γ-1}$")
    axes.legend()
    figure.tight_layout()
    return figure


FIGURES = {"fig3": Figure(__doc__, make)}
