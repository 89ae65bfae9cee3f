"""Is the comparison fair? The best of k settings against k, for each optimizer's grid of an experiment."""

import pandas as pd

from analysis import budget, names, style
from analysis.claims.schema import paper_labels
from analysis.records import NoRecords, advice, only
from analysis.statistics import expected_best
from analysis.tables import markdown

from .recipe import Figure


def make(epochs: pd.DataFrame, provenance: dict) -> dict:
    stem = f"fairness-{provenance['experiment']}"
    title = f"# Best of k settings, {provenance['experiment']}, tier {provenance['tier']}\n\n"
    tried = only(epochs, stage="grid")
    tried = tried[~tried["label"].isin(provenance["incomplete"])]
    if tried.empty:
        raise NoRecords(f"no entry's grid is complete; {advice(provenance['experiment'], provenance['tier'])}")
    lines = budget.compared(epochs, paper_labels(provenance["experiment"]), provenance["incomplete"])
    shown = {"seeds": sorted(tried["seed"].unique().tolist()), "shown": tried["run"].nunique()}
    return {
        stem: draw(
            budget.scores(tried), provenance | shown, names.task(epochs["model"].iloc[0], epochs["dataset"].iloc[0])
        ),
        f"{stem}.md": title + markdown(budget.HEADER, lines),
    }


def draw(found: dict[str, list[float]], provenance: dict, task: str):
    figure, axes = style.plt.subplots(figsize=(5, 3.8))
    for index, (label, values) in enumerate(found.items()):
        ks = range(1, len(values) + 1)
        colour, dash = style.nth(index)
        axes.plot(ks, [expected_best(values, k) for k in ks], dash, color=colour, marker=".",
                  label=names.optimizer(label))  # fmt: skip
    axes.xaxis.get_major_locator().set_params(integer=True)  # pyright: ignore[reportCallIssue]
    axes.set(xlabel="settings tried, k", ylabel="expected best test accuracy of k",
             title=f"{task}{style.reduced(provenance)}: the best of k settings")  # fmt: skip
    axes.legend()
    figure.tight_layout(rect=(0, 0.14, 1, 1))
    style.stamp(figure, provenance)
    return figure


FIGURES = {f"fairness-{name}": Figure(__doc__, make, name, "laptop", ("fairness",)) for name in names.PANELS}
