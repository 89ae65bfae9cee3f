"""Figure 3: how much the Powerball function amplifies a gradient component, |g|^(gamma - 1). Computed, not trained.

python -m figures.fig3 [--results results]
"""

import numpy as np
import torch

from analysis import style
from analysis.records import command, options
from optimizers import powerball
from runs.table import write as write_table

GAMMAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SIZES = np.logspace(-6, 1, 141)


def main() -> None:
    arguments = options(__doc__, "paper").parse_args()
    base = arguments.results / "figure3"
    rows = table()
    write_table(base.with_suffix(".csv"), rows)
    print("pictures", *style.save(draw(rows), base))
    print(f"table    {base.with_suffix('.csv')}")


def table() -> list[dict]:
    """The ratio at each size and gamma, from the function that the optimizer steps with."""
    sizes = torch.from_numpy(SIZES)
    ratios = {gamma: (powerball(sizes, gamma) / sizes).tolist() for gamma in GAMMAS}
    return [{"size": size, "gamma": gamma, "amplification": ratio}
            for gamma, column in ratios.items() for size, ratio in zip(SIZES, column, strict=True)]  # fmt: skip


def draw(rows: list[dict]):
    figure, axes = style.plt.subplots(figsize=(5, 3.6))
    for index, gamma in enumerate(GAMMAS):
        chosen = [row for row in rows if row["gamma"] == gamma]
        points = [row["size"] for row in chosen], [row["amplification"] for row in chosen]
        axes.plot(*points, style.DASHES[index % 4], color=style.COLOURS[index], label=f"γ {gamma:g}")
    axes.set(xscale="log", yscale="log", xlabel="size of a gradient component |g|", ylabel="amplification |g|$^{γ-1}$")
    axes.legend()
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    command(main)
