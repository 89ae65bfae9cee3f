"""What the paper states about its experiments: results/paper_reference.yaml."""

import functools

import yaml

from analysis.records import RESULTS

# The entries of experiment fig7 of which the paper states an accuracy, by optimizer and schedule
FIGURE7 = {("powersgd", "step"): "powersgd", ("powersgd", "warm_restarts"): "powersgdr"}


@functools.cache
def reference() -> dict:
    return yaml.safe_load((RESULTS / "paper_reference.yaml").read_text())


def best_test_acc(dataset: str, model: str) -> dict[str, float]:
    """The best test accuracies stated in figure 1 for a network, by optimizer."""
    return {
        entry["optimizer"]: entry["best_test_acc"]
        for entry in reference()["figure1"]
        if (entry["dataset"], entry["model"]) == (dataset, model) and entry["best_test_acc"] is not None
    }
