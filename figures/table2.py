"""Table 2: models and data sets of the experiments, from configs/, with the sizes of the networks built from them."""

import yaml

from analysis.names import PANELS
from analysis.records import EXPERIMENTS
from analysis.tables import both
from models.size import size

from .recipe import Figure

KINDS = {experiment: "convergence and generalization" for experiment in PANELS} | {"fig2": "Powerball feature"}
NOTES = """
Parameters and multiply-adds (of one image) are counted on the networks that `models/` builds at the paper tier.
"""


def load(group: str, option: str) -> dict:
    return yaml.safe_load((EXPERIMENTS.parent / group / f"{option}.yaml").read_text())


def make() -> dict:
    rows = []
    for experiment, kind in KINDS.items():
        config = load("experiment", experiment)
        chosen = {key.removeprefix("override /"): v for line in config["defaults"] for key, v in line.items()}
        dataset, model = load("dataset", chosen["dataset"]), load("model", chosen["model"])
        parameters, products = size(model, dataset["image_shape"], dataset["num_classes"])
        rows.append([
            kind, dataset["name"], model["name"], f"{parameters:,}", f"{products / 1e9:.3f} G",
            str(config["epochs"]), str(config["batch_size"]), f"`experiment={experiment}`",
        ])  # fmt: skip
    header = ["experiments", "data set", "architecture", "parameters", "multiply-adds", "epochs", "batch", "config"]
    return both("table2", "Table 2: models and datasets", header, rows, NOTES)


FIGURES = {"table2": Figure(__doc__, make)}
