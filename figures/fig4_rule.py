"""Was figure 4's rule right to end runs early? Its ten dead and ten trained cells over all their epochs."""

import pandas as pd
import yaml

from analysis.records import EXPERIMENTS, RUN
from analysis.tables import markdown

from .recipe import Figure, missing


def make(epochs: pd.DataFrame, provenance: dict) -> dict:
    success = yaml.safe_load((EXPERIMENTS / "fig4.yaml").read_text())["stop"]["success"]
    text = f"# Figure 4's rule, tier {provenance['tier']}\n\n{table(epochs, success)}{missing(provenance)}"
    return {"figure4_rule.md": text}


def table(epochs: pd.DataFrame, success: float) -> str:
    """A line for each run: when the rule would have ended it, and whether the rest of the run agrees."""
    lines = []
    for _, run in epochs.groupby(RUN, sort=False):
        first, last, (kind, epoch) = run.iloc[0], run.iloc[-1], verdict(run, success)
        after = run[run["epoch"] > epoch]
        if kind == "trained":
            agrees = last["train_acc"] >= success
        else:
            agrees = ((after["train_acc"] < success) & (after["grad_norm1"] == 0)).all()
        lines.append([
            str(first["depth"]), f"{first['initial_lr']:g}", f"{first['gamma']:g}", f"{kind} in {epoch}",
            str(len(after)), f"{run['train_acc'].max():.4f}", f"{last['train_acc']:.4f}", "yes" if agrees else "no",
        ])  # fmt: skip
    header = ["depth", "lr", "gamma", "the rule", "epochs after it", "best train accuracy", "last", "agrees at the end"]
    return markdown(header, lines)


def verdict(run: pd.DataFrame, success: float) -> tuple[str, int]:
    """The rule's verdict on a whole run, and its epoch: trained, dead, or neither at the end."""
    for epoch, accuracy, norm in zip(run["epoch"], run["train_acc"], run["grad_norm1"], strict=True):
        if accuracy >= success:
            return "trained", epoch
        if norm == 0:
            return "dead", epoch
    return "neither", run["epoch"].iloc[-1]


FIGURES = {"fig4_rule": Figure(__doc__, make, "fig4_rule")}
