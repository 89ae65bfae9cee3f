"""Train one network with one optimizer, or many with -m: `python train.py --help`."""

import signal
import sys

from runs.interrupt import at_start

signal.signal(signal.SIGINT, at_start)

import hydra
from hydra.core.hydra_config import HydraConfig

from runs import cli
from runs.schema import ConfigError

cli.register()


@hydra.main(config_path="configs", config_name="train", version_base="1.3")
@cli.task
def main(config) -> float:
    """Returns the best test accuracy, so that Hydra sweepers can optimise it."""
    settings = cli.typed(config)
    for name in ("plan", "status", "watch", "decide", "calibrate", "merge", "verify"):
        if config[name]:
            raise ConfigError(f"{name}={config[name]}: python sweep.py does that")
    if settings.launcher.name in ("ray", "slurm"):
        raise ConfigError(
            f"launcher={settings.launcher.name}: only sweep.py does that, for example '+grid.paper.sgd.lr=[0.1,0.01]'"
        )

    if settings.launcher.gpus_per_run > 1:
        raise ConfigError(
            f"launcher.gpus_per_run={settings.launcher.gpus_per_run}: python sweep.py does that; for one run, "
            f"torchrun --nproc-per-node={settings.launcher.gpus_per_run} train.py"
        )

    if settings.model.summary:
        from training.summary import summary

        print(summary(settings))
        return 0.0

    from runs.run import Run
    from training.distributed import World
    from training.terminal import Terminal

    main_process, epochs = World.from_environment().main, None if settings.rerun else settings.epochs
    done = 0 if settings.rerun else Run.of(cli.plain(config)).status().get("epoch") or 0
    with Terminal(epochs, done, settings.progress and main_process) as terminal:
        if settings.rerun:
            from training.rerun import rerun

            asked = any(override.startswith("epochs=") for override in HydraConfig.get().overrides.task)
            agrees, lines = rerun(settings.rerun, cli.plain(config), settings.epochs if asked else None, terminal.epoch)
            print(*lines, sep="\n")
            if not agrees:
                sys.exit(1)
            return 0.0
        from training.execute import execute

        run = execute(settings, terminal.epoch, terminal.say, terminal.step)
    rows, status = run.rows(), run.status()
    best = max(row["test_acc"] for row in rows)
    if main_process:
        print(f"{run.name}: {status['state']} ({status['reason']}), test accuracy best {best:.4f}, "
              f"last {rows[-1]['test_acc']:.4f}; {run.folder}")  # fmt: skip
    return best


if __name__ == "__main__":
    cli.run(main)
