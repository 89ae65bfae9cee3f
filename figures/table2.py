"""Table 2: models and data sets of the experiments, from configs/, with the sizes of the networks built from them.

python -m figures.table2
"""

import yaml

from analysis.tables import ROOT, write
from models.size import size

KINDS = {
    "fig1ab": "convergence and generalization",
    "fig1cd": "convergence and generalization",
    "fig1ef": "convergence and generalization",
    "fig1gh": "convergence and generalization",
    "fig1ij": "convergence and generalization",
    "fig2": "Powerball feature",
}
NOTES = """
Parameters and multiply-adds (of one image) are counted on the networks that `models/` builds at the paper tier.
"""


def load(*path: str) -> dict:
    return yaml.safe_load(ROOT.joinpath("configs", *path).with_suffix(".yaml").read_text())


def main() -> None:
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
    write("table2", "Table 2: models and datasets", header, rows, NOTES)


if __name__ == "__main__":
    main()
