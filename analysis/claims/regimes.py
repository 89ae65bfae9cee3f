"""Which runs can judge a claim, late or early in the paper's schedule; decided by their settings, not their results.

late: generalisation and what is best in the end. Needs a network that fits its training set.
early: the first epochs. Needs the paper's own: all training images, batches of 128.

The paper's own protocol has both. At the laptop tier an experiment is late, and its claims on the first epochs are
judged by the experiment of the same name with `_early`.
"""

import json

from .schema import EXPERIMENTS, Archive, Claim

FITTED = 0.95  # train accuracy of a network that fits its training set
RULE = "8b626d98084d"  # the commit that fixed the rules below
TWO = ("laptop",)  # tiers with an experiment for each regime


def experiment(claim: Claim, name: str, tier: str) -> str:
    """The experiment whose runs judge the claim about `name` at a tier."""
    early = f"{name}_early"
    return early if claim.regime == "early" and tier in TWO and (EXPERIMENTS / f"{early}.yaml").exists() else name


def unmet(claim: Claim, judged: Archive) -> str:
    """In words, why the runs cannot judge the claim; empty if they can."""
    if judged.tier == "paper" or judged.epochs.empty:
        return ""
    return {"late": fitted, "early": first_epochs, "any": lambda judged: ""}[claim.regime](judged)


def fitted(judged: Archive) -> str:
    """Generalisation and what is best in the end need a network that fits its training set."""
    best = judged.epochs.groupby(["setting", "run"])["train_acc"].max().groupby("setting").mean().max()
    if best >= FITTED:
        return ""
    return f"it needs a network that fits its training set; the best setting trains to {best:.3f}, less than {FITTED}"


def first_epochs(judged: Archive) -> str:
    """With a smaller training set the first epochs have fewer steps than the paper's."""
    configs = [json.loads(config) for config in judged.ended()["config"].unique()]
    images = {config.get("dataset.subset") for config in configs} - {None}
    if not images and {config["batch_size"] for config in configs} == {128}:
        return ""
    return f"it needs the paper's own first epochs; an epoch here has {', '.join(map(str, sorted(images)))} images"
