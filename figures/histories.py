"""The tidy history of single runs, for git to keep: `python -m figures.histories OUT.csv RUN_FOLDER...`

A row an epoch and run, with what names the run and its training time; runs that have not ended are refused.
"""

import argparse
import sys
from pathlib import Path

import yaml

from runs import table
from runs.run import Run

METRICS = (
    "epoch", "lr", "train_loss", "train_acc", "test_loss", "test_acc", "grad_norm1", "powered_norm1", "seconds",
    "images_per_second",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    arguments = parser.parse_args()
    rows = []
    for run in map(Run, arguments.folders):
        if not run.ended():
            print(f"error: {run.folder} has not ended", file=sys.stderr)
            sys.exit(2)
        config, status = yaml.safe_load((run.folder / "config.yaml").read_text()), run.status()
        about = {
            "dataset": config["dataset"]["name"],
            "model": config["model"]["name"],
            "optimizer": config["optimizer"]["name"],
            "initial_lr": config["optimizer"]["lr"],
            "tier": config["tier"],
            "seed": config["seed"],
        }
        about |= {"state": status["state"], "total_seconds": status["seconds"], "run": run.id}
        about |= {key: status["environment"].get(key) for key in ("device", "threads", "torch", "commit")}
        rows += [about | {key: row.get(key) for key in METRICS} for row in run.rows()]
    table.write(arguments.out, rows)
    print(f"{len(arguments.folders)} runs, {len(rows)} rows: {arguments.out}")


if __name__ == "__main__":
    main()
