"""Train all runs of an experiment: `python sweep.py experiment=fig2 tier=smoke launcher=local`."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from runs.interrupt import at_start

signal.signal(signal.SIGINT, at_start)

import hydra
from hydra.core.hydra_config import HydraConfig

from runs import cli
from runs.schema import ConfigError

cli.register()
MEASURE_FROM = 0.05  # hours; before a longer sweep on this machine's CPU, a few steps of each network are timed


@hydra.main(config_path="configs", config_name="train", version_base="1.3")
@cli.task
def main(config) -> None:
    from runs.merge import merge
    from sweeps import cost, show
    from sweeps.place import place

    asked = [name for name in ("plan", "status", "decide", "calibrate", "merge", "verify") if config[name]]
    if config.watch and not config.status:
        raise ConfigError("watch=true goes with status=true")
    if len(asked) > 1:
        raise ConfigError(f"{' and '.join(f'{name}={config[name]}' for name in asked)}: give one at a time")
    for override in HydraConfig.get().overrides.hydra:
        if override.lstrip("+~").startswith("hydra.launcher."):
            raise ConfigError(f"{override}: sweep.py has its own settings, launcher.workers, launcher.partition ...")
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
    here = place(cli.plain(config))
    if config.decide:
        decide(given, here, config)
        return
    experiments = chosen_experiments(config, given)
    plans = [one if isinstance(one, str) else one.plan() for one in experiments]
    if config.calibrate:
        jobs = [job for plan in plans if not isinstance(plan, str) for job in plan.jobs]
        print(f"calibration {cost.calibrate(jobs, Path(config.results), here)}")
    elif config.plan:
        print(show.plan_table(plans, here))
        if len(plans) > 1:
            from sweeps.open_claims import table

            print(table(Path(config.results), config.tier, plans, here))
        if config.archive:
            show.keep_costs(plans, here)
    elif config.watch:
        show.watch(experiments, here)
    elif config.status:
        print(*(plan if isinstance(plan, str) else show.status_table(plan, here) for plan in plans), sep="\n\n")
    else:
        for line in (one for one in experiments if isinstance(one, str)):
            print(line)
        sweep([one for one in experiments if not isinstance(one, str)], here, config)


def chosen_experiments(config, given: list[str]) -> list:
    """The command's experiment, those of `experiments`, or, for a plan or with [all], each that exists at the tier.

    An experiment that does not exist there is replaced by a line that says why.
    """
    from tqdm import tqdm

    from sweeps.plan import Experiment, compose

    names = list(config.experiments)
    everything = names == ["all"] or ((config.plan or config.calibrate) and not names)
    if config.experiment is not None or config.grid or not (names or everything):
        if names:
            raise ConfigError(f"experiment={config.experiment}, experiments={names}: give one of them")
        return [Experiment(config, given)]
    found, rest = [], [override for override in given if not override.startswith("experiments=")]
    # Composing everything takes 20 s after a change of configs/, and a second from then on (runs/kept.py).
    for name in tqdm(known_names(config), "composing", unit="experiment", leave=False, disable=None):
        chosen = [*rest, f"experiment={name}"]
        try:
            experiment = Experiment(compose(tuple(chosen)).config, chosen)
        except ConfigError as error:
            found.append(f"{name:20} left out: {error}")
            continue
        pictures = Path(experiment.base["data_dir"]) / experiment.base["dataset"]["folder"]
        absent = everything and not config.plan and not pictures.is_dir()
        found.append(f"{name:20} left out: there is no folder {pictures}" if absent else experiment)
    return found


def known_names(config) -> list[str]:
    """The names in `experiments`; without any, or with [all], those of every experiment."""
    names = list(config.experiments)
    known = sorted(path.stem for path in (cli.ROOT / "configs" / "experiment").glob("*.yaml"))
    if names in ([], ["all"]):
        return known
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"experiments={', '.join(unknown)}: choose from {', '.join(known)}, or [all]")
    return names


def sweep(experiments: list, here, config) -> None:
    """Train the missing runs, and those that the protocol adds as runs end, in one queue."""
    from sweeps import show
    from sweeps.cost import Costs, calibrate
    from sweeps.plan import in_turns

    plans = [experiment.plan() for experiment in experiments]
    hours = show.total(plans, here).hours[1]
    if config.launcher.name in ("here", "local") and not here.on_gpu and MEASURE_FROM < hours < 10 * config.budget:
        for plan in plans:
            guessed = Costs(plan.jobs, plan.results, here).guessed(plan.wanted())
            calibrate(guessed, plan.results, here, quiet=True)
    print(*(show.summary(plan, here) for plan in plans), sep="\n", flush=True)
    if len(plans) > 1:
        print(f"together {show.total(plans, here)}", flush=True)
    show.refuse_over_budget(plans, here, config.budget)
    for plan in plans:
        plan.write()
    failed: dict[str, str] = {}
    reports = Reports(config)
    complete = {plan.experiment for plan in plans if plan.jobs and not plan.wanted() and not plan.to_come}
    for plan in plans:
        if plan.experiment in complete:  # an earlier command may have been stopped before its report
            reports.begin(plan)
    if any(plan.wanted() for plan in plans):
        from sweeps.engines import engine
        from sweeps.launch import Queue
        from training.wandb_session import forecast

        at_once = here.slots // config.launcher.gpus_per_run
        print(f"{here.device}, {at_once} at a time; data in {config.data_dir}, runs in {config.runs}")
        print(f"W&B: {forecast(config.wandb)}", flush=True)
        estimates = Costs([job for plan in plans for job in plan.jobs], plans[0].results, here)
        launcher = experiments[0].base["launcher"]
        said = {plan.experiment: len(plan.jobs) for plan in plans}

        def estimate(job):
            return estimates.of(job.config).seconds, estimates.share(job.config)

        with Queue(engine(here, launcher), config.retry, estimate) as queue:
            while True:
                queue.add(job for plan in plans for job in in_turns(plan.wanted()))
                changed = queue.wait()
                if not changed:
                    break
                for number, experiment in enumerate(experiments):
                    if changed & plans[number].hangs_on():
                        plan = plans[number] = experiment.plan(changed)
                        if len(plan.jobs) > said[plan.experiment]:
                            said[plan.experiment] = len(plan.jobs)
                            plan.write()  # a starting run looks up its stage there
                            queue.say(show.summary(plan, here))
                        if plan.experiment not in complete and not plan.wanted():
                            complete.add(plan.experiment)
                            plan.write()
                            reports.begin(plan)
            failed, use = queue.failed, queue.use(len(here.gpus) // launcher["gpus_per_run"])
        if use:
            print(f"{len(here.gpus)} GPUs, in use {use:.0%} of the time from the first start to the last end")
    else:
        print("finished before, nothing trained")
    reports.finish()
    for plan in plans:
        path = plan.write()
        for selection in plan.selections:
            print(f"{selection.label}: {selection.reason}")
        print(f"{len(plan.jobs) - len(plan.missing())} of {len(plan.jobs)} runs finished; {path}")
    for line in failed.values():
        print(f"not finished: {line}", file=sys.stderr)
    if failed:
        sys.exit(1)


def decide(given: list[str], here, config) -> None:
    """Spend the given hours on the runs that decide open claims; see sweeps/decide.py."""
    from analysis.looks import TIERS
    from runs import archive
    from sweeps import show
    from sweeps.cost import Costs
    from sweeps.decide import OPEN, catch_up, next_looks, spend, with_seeds
    from sweeps.engines import engine
    from sweeps.launch import Queue
    from sweeps.open_claims import judged_here
    from sweeps.plan import Experiment

    if config.tier not in TIERS or config.experiment or config.grid:
        raise ConfigError(
            f"decide={config.decide:g} is for claims of tier={' or '.join(TIERS)}: all, or those on experiments=[...]; "
            "leave out experiment and grid"
        )
    names = known_names(config)

    def plan(name: str, seeds: int):
        rest = [one for one in given if not one.startswith(("decide=", "experiments="))]
        chosen = [*rest, f"experiment={name}", "archive=true"]
        try:
            return with_seeds(Experiment(cli.recomposed(chosen), chosen), seeds).plan()
        except ConfigError:
            return None

    def export(plan) -> None:
        plan.write()
        archive.export(plan.content, plan.results / plan.label / "archive")

    def train(look) -> float:
        started = time.monotonic()
        estimates = Costs(list(look.jobs), Path(config.results), here)

        def estimate(job):
            return estimates.of(job.config).seconds, estimates.share(job.config)

        with Queue(engine(here, cli.plain(config)["launcher"]), config.retry, estimate) as queue:
            queue.add(look.jobs)
            while queue.wait():
                pass
            print(*queue.failed.values(), sep="\n", file=sys.stderr)
        for name in dict.fromkeys([*(job.config["experiment"] for job in look.jobs), look.experiment]):
            if made := plan(name, look.seeds):
                export(made)
        return (time.monotonic() - started) / 3600

    def price(plan, jobs, to_come) -> float:
        return show.price(plan, here, jobs, to_come).hours[1]

    def claims() -> list:
        return [claim for claim in judged_here(Path(config.results), config.tier) if claim.experiment in names]

    catch_up([claim for claim in claims() if claim.verdict in OPEN], plan, export)
    for line in spend(
        config.decide,
        claims,
        lambda open_claims: next_looks(open_claims, plan, price),
        train,
    ):
        print(line, flush=True)


class Reports:
    """With report=true: makes the figures, claims and report of each complete experiment while others still train."""

    def __init__(self, config):
        self.config, self.threads, self.one_at_a_time = config, [], threading.Lock()

    def begin(self, plan) -> None:
        if self.config.report and plan.label != "custom":
            self.threads.append(threading.Thread(target=self._make, args=(plan,)))
            self.threads[-1].start()

    def finish(self) -> None:
        for thread in self.threads:
            thread.join()

    def _make(self, plan) -> None:
        where = ["--tier", plan.label, "--results", str(plan.results)]
        with self.one_at_a_time:
            for command in (["figures", plan.experiment], ["analysis.claims"], ["report"]):
                done = subprocess.run(
                    [sys.executable, "-m", *command, *where], cwd=cli.ROOT, capture_output=True, text=True
                )
                if done.returncode and "there is no figure" not in done.stderr:
                    print(f"{plan.experiment}: {done.stderr.strip()}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    cli.run(main)
