"""Train all runs that an experiment asks for: `python sweep.py experiment=fig2 tier=smoke launcher=local`."""

import math
import signal
import sys
from pathlib import Path

from runs.interrupt import during_imports

signal.signal(signal.SIGINT, during_imports)

import hydra
from hydra.core.hydra_config import HydraConfig

from runs import cli
from runs.schema import ConfigError

cli.register()


@hydra.main(config_path="configs", config_name="train", version_base="1.3")
@cli.task
def main(config) -> None:
    from runs.merge import merge
    from sweeps import cost, show
    from sweeps.plan import Experiment

    asked = [name for name in ("plan", "status", "calibrate", "merge", "verify") if config[name]]
    if len(asked) > 1:
        raise ConfigError(f"{' and '.join(f'{name}={config[name]}' for name in asked)}: one at a time")
    launcher = HydraConfig.get().launcher
    given = list(HydraConfig.get().overrides.task)
    if config.merge is not None:
        lines, fit = merge(Path(config.merge), Path(config.runs))
        print(*lines, sep="\n")
        sys.exit(0 if fit else 1)
    if config.verify:
        from sweeps.verify import verify

        lines, sound = verify(Path(config.results), Path(config.runs), Path(config.data_dir))
        print(*lines, sep="\n")
        sys.exit(0 if sound else 1)
    if (config.plan or config.calibrate) and config.experiment is None and not config.grid:
        plans: list = all_plans(given)
    else:
        experiment = Experiment(config, given)
        plans = [experiment.plan()]
    if config.calibrate:
        jobs = [job for plan in plans if not isinstance(plan, str) for job in plan.jobs]
        print(f"calibration {cost.calibrate(jobs, Path(config.results))}")
    elif config.plan:
        print(show.plan_table(plans, launcher))
        if config.archive:
            show.keep_costs(plans, launcher)
    elif config.status:
        print(show.status_table(plans[0], launcher))
    else:
        sweep(experiment, launcher, config)


def sweep(experiment, launcher: dict, config) -> None:
    """Train what is missing, round by round, until the protocol asks for nothing more."""
    from sweeps import show

    plan = experiment.plan()
    print(show.summary(plan, launcher), flush=True)
    hours, _ = show.machine_hours(plan, launcher)
    if hours > config.budget:
        raise ConfigError(
            f"the plan needs about {show.duration(hours)} of this machine, budget={config.budget:g} hours allows less; "
            f"choose tier=laptop or tier=smoke, or consent with budget={math.ceil(hours)}"
        )
    path, failed = plan.write(), {}
    if plan.wanted():
        from training.wandb_session import forecast

        print(f"W&B: {forecast(config.wandb)}", flush=True)
    while jobs := [job for job in plan.wanted() if job.run.name not in failed]:
        from sweeps.launch import launch

        lines = launch(jobs, config.retry)
        plan = experiment.plan()
        path = plan.write()
        unfinished = {job.run.name for job in plan.missing()} & {job.run.name for job in jobs}
        failed |= {name: next((x for x in lines if x.startswith(name)), name) for name in sorted(unfinished)}
        if plan.to_come or len(plan.jobs) > len(jobs):
            print(show.summary(plan, launcher), flush=True)
    for selection in plan.selections:
        print(f"{selection.label}: {selection.reason}")
    for line in failed.values():
        print(f"not finished: {line}", file=sys.stderr)
    print(f"{len(plan.jobs) - len(plan.missing())} of {len(plan.jobs)} runs finished; {path}")
    if failed:
        sys.exit(1)


def all_plans(given: list[str]) -> list:
    """The plan of every experiment that exists at the tier, and a line for each that does not."""
    from sweeps.plan import Experiment

    plans = []
    for name in sorted(path.stem for path in (cli.ROOT / "configs" / "experiment").glob("*.yaml")):
        chosen = [*given, f"experiment={name}"]
        try:
            plans.append(Experiment(cli.recomposed(chosen), chosen).plan())
        except ConfigError as error:
            plans.append(f"{name:14} not planned: {error}")
    return plans


if __name__ == "__main__":
    cli.run(main)
