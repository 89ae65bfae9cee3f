"""CPU seconds that the laptop tier takes to a test and a train accuracy, compared with the former tier (short).

    python -m benchmarks.laptop_value [resnet50 ...] [--train 0.9 ...] [--test 0.45 ...] [--seed 0] [--json FILE]

SGDM at lr 0.1, one seed, on real data. Several accuracies can be given, as CIFAR-100's are lower. Seconds are CPU time
of the process including evaluations, which other programs disturb less than wall time. An accuracy is reached at the
end of the first epoch that has it.
"""

import tempfile
import time

from hydra import compose, initialize_config_dir

from benchmarks import timing
from runs import cli
from training.execute import execute

NETWORKS = {"resnet50": "fig1ab", "densenet121": "fig1cd", "wrn26": "fig1ef", "resnext29": "fig1gh"}
SGDM = ["optimizer=sgdm", "optimizer.lr=0.1", "wandb.mode=disabled", "device=cpu"]


def designs(network: str) -> dict[str, list[str]]:
    """The settings to compare, by name."""
    experiment = NETWORKS[network]
    found = {
        "late": [f"experiment={experiment}", "tier=laptop"],
        "early": [f"experiment={experiment}_early", "tier=laptop"],
    }
    return {"short": [f"experiment={experiment}", "tier=short"], **found} if network == "resnet50" else found


def measured(overrides: list[str], goals: dict[str, list[float]]) -> dict[str, float | None]:
    """The run's CPU seconds, its best accuracies, and the seconds to each goal ({column: accuracies})."""
    with initialize_config_dir(str(cli.ROOT / "configs"), version_base="1.3"):
        config = compose("train", [*SGDM, *overrides])
    started, seconds, rows = time.process_time(), [], []

    def note(row: dict) -> None:
        seconds.append(time.process_time() - started)
        rows.append(row)

    with tempfile.TemporaryDirectory() as folder:
        config.results, config.runs, config.progress = folder, f"{folder}/runs", False
        execute(cli.typed(config), note)
    found: dict[str, float | None] = {"seconds": seconds[-1]}
    for column, accuracies in goals.items():
        found[f"best {column}"] = max(row[column] for row in rows)
        for goal in accuracies:
            reached = (at for at, row in zip(seconds, rows, strict=True) if row[column] >= goal)
            found[f"seconds to {column} {goal:g}"] = next(reached, None)
    return found


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(NETWORKS)}; none: all")
    parser.add_argument("--train", type=float, nargs="+", default=[0.9])
    parser.add_argument("--test", type=float, nargs="+", default=[0.45])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--override", action="append", default=[], help="a setting of the runs, such as a data set's")
    arguments = parser.parse_args()
    if unknown := set(arguments.networks) - set(NETWORKS):
        parser.error(f"no network {', '.join(sorted(unknown))}; choose from {', '.join(NETWORKS)}")
    cli.register()
    goals, cases = {"train_acc": arguments.train, "test_acc": arguments.test}, {}
    for network in arguments.networks or NETWORKS:
        for name, overrides in designs(network).items():
            found = measured([*overrides, f"seed={arguments.seed}", *arguments.override], goals)
            cases[f"{network}, {name}"] = found
            words = [f"{key} {'never' if value is None else f'{value:.3g}'}" for key, value in found.items()]
            print(f"{network}, {name}: {', '.join(words)}", flush=True)
            timing.write_json(arguments.json, cases, seed=arguments.seed)


if __name__ == "__main__":
    main()
