"""What a claim needs of the runs that judge it. By what they are, never by what they show of the claim."""

import json

from .schema import Archive, Claim

FITTED = 0.95  # train accuracy of a network that fits its training set
RULE = "8b626d98084d"  # the commit since which the rules below are as they stand


def unmet(claim: Claim, judged: Archive) -> str:
    """Why the runs cannot judge the claim, in words; empty if they can. The paper's own protocol always can."""
    if judged.tier == "paper" or judged.epochs.empty:
        return ""
    reasons = {"fitted": fitted, "first_epochs": first_epochs}
    return "; ".join(filter(None, (reasons[need](judged) for need in claim.needs)))


def fitted(judged: Archive) -> str:
    """Generalisation and what is best in the end take a network that fits its training set."""
    best = judged.epochs.groupby(["setting", "run"])["train_acc"].max().groupby("setting").mean().max()
    if best >= FITTED:
        return ""
    return (
        f"it needs a network that fits its training set; the best setting's train accuracy is {best:.2f}, not {FITTED}"
    )


def first_epochs(judged: Archive) -> str:
    """The first epochs of a smaller training set are fewer steps than the paper's."""
    configs = [json.loads(config) for config in judged.ended()["config"].unique()]
    images = {config.get("dataset.subset") for config in configs} - {None}
    if not images and {config["batch_size"] for config in configs} == {128}:
        return ""
    return f"it needs the paper's own first epochs; an epoch here has {', '.join(map(str, sorted(images)))} images"
