"""From an experiment's grid to the list of its runs, and what of them is done."""

import copy
import itertools
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from training import cli
from training.config import OPERATIONAL, ConfigError, validate
from training.run import Run, write_atomically

# What a command may change without changing what the experiment asks.
NEUTRAL = (OPERATIONAL - {"seeds", "grid", "source"}) | {"launcher"}


@dataclass
class Job:
    """One run of a plan: its resolved config, and the command line that composes it again."""

    config: dict
    overrides: list[str]

    @property
    def run(self) -> Run:
        return Run.of(self.config)


@dataclass
class Plan:
    experiment: str
    label: str  # the tier, or "custom" if the command changes more than where and how it runs
    results: Path
    jobs: list[Job]
    changes: list[str]  # overrides that make it custom

    @property
    def path(self) -> Path:
        return self.results / self.label / f"plan-{self.experiment}.json"

    def missing(self) -> list[Job]:
        return [job for job in self.jobs if not job.run.ended()]

    def summary(self) -> str:
        """The plan in a line: how many runs, how many are done, and what the rest will cost if that is known."""
        missing = self.missing()
        epochs = sum(job.config["epochs"] for job in missing)
        text = f"{self.experiment}, tier {self.label}: {len(self.jobs)} runs, {len(self.jobs) - len(missing)} done"
        measured = [row["seconds"] for job in self.jobs for row in job.run.rows()]
        if missing and measured:
            return f"{text}, {epochs} epochs to train, {epochs * statistics.mean(measured) / 3600:.1f} core hours"
        return f"{text}, {epochs} epochs to train" if missing else text

    def write(self) -> Path:
        """Write down which runs the figure is made of, for figures/ to read."""
        content = {
            "experiment": self.experiment,
            "tier": self.label,
            "changes": self.changes,
            "runs": [
                {"folder": str(job.run.folder.resolve()), "optimizer": job.config["optimizer"], "seed": job.config["seed"]}
                for job in self.jobs
            ],
        }  # fmt: skip
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, (json.dumps(content, indent=1) + "\n").encode())
        return self.path


def make_plan(config: DictConfig) -> Plan:
    """The runs of the composed experiment: every point of each optimizer's grid, for every seed.

    Called under @hydra.main. Raises ConfigError if the experiment has no grid or a point of it is out of range.
    """
    base = cli.plain(config)
    if not base["grid"]:
        raise ConfigError("nothing to sweep: choose experiment=... or give a grid, e.g. 'grid={sgd: {lr: [0.1]}}'")
    hydra = HydraConfig.instance().cfg
    given = list(hydra.hydra.overrides.task)
    loader = GlobalHydra.instance().config_loader()
    jobs = []
    for optimizer, grid in base["grid"].items():
        # Composing takes 0.1 s, so it is done once an optimizer; the points differ in plain values only.
        composed = cli.plain(loader.load_sweep_config(hydra, [*given, f"optimizer={optimizer}"]))
        unknown = [key for key in grid if key not in composed["optimizer"]]
        if unknown:
            raise ConfigError(f"grid.{optimizer}.{unknown[0]}: optimizer={optimizer} has no such setting")
        for seed, *values in itertools.product(base["seeds"], *grid.values()):
            point = copy.deepcopy(composed) | {"seed": seed}
            point["optimizer"] |= dict(zip(grid, values, strict=True))
            validate(point)
            settings = [f"optimizer.{key}={value}" for key, value in zip(grid, values, strict=True)]
            jobs.append(Job(point, [*given, f"optimizer={optimizer}", *settings, f"seed={seed}"]))
    changes = [text for text in given if text.lstrip("+~").split("=")[0].split(".")[0] not in NEUTRAL]
    label = "custom" if changes else base["tier"]
    return Plan(base["experiment"] or "sweep", label, Path(base["results"]), jobs, changes)
