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

COLUMNS = ("optimizer", "model", "seed")  # of a run's config, for figures to tell the runs apart

TIERS = ("paper", "laptop", "smoke")


@dataclass
class Job:
    """One run of a plan: its grid entry, its resolved config, and the command line that composes it again."""

    label: str
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
            minutes = epochs * statistics.mean(measured) / 60
            return f"{text}, {epochs} epochs to train, about {minutes:.0f} minutes of a core"
        return f"{text}, {epochs} epochs to train" if missing else text

    def write(self) -> Path:
        """Write down which runs the figure is made of, for figures/ to read."""
        content = {
            "experiment": self.experiment,
            "tier": self.label,
            "changes": self.changes,
            "runs": [
                {"folder": str(job.run.folder.resolve()), "label": job.label} | {k: job.config[k] for k in COLUMNS}
                for job in self.jobs
            ],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, (json.dumps(content, indent=1) + "\n").encode())
        return self.path


def make_plan(config: DictConfig) -> Plan:
    """The runs of the composed experiment: every point of each grid entry, for every seed.

    An entry is named after its optimizer, or says `optimizer: name`; it may choose any other group the same way
    (`schedule: warm_restarts`). Its lists are the axes: `lr` and other settings of the optimizer, or paths such
    as `model.depth`. Called under @hydra.main. Raises ConfigError if there is no grid or a point is out of range.
    """
    base = cli.plain(config)
    hydra = HydraConfig.instance().cfg
    given = list(hydra.hydra.overrides.task)
    loader = GlobalHydra.instance().config_loader()
    jobs = []
    for label, groups, axes in grid_entries(base):
        # Composing takes 0.1 s, so it is done once an entry; the points differ in plain values only.
        chosen = [*given, *(f"{group}={option}" for group, option in groups.items())]
        composed = cli.plain(loader.load_sweep_config(hydra, chosen))
        for seed, *values in itertools.product(base["seeds"], *axes.values()):
            point = copy.deepcopy(composed) | {"seed": seed}
            settings = dict(zip(axes, values, strict=True))
            for path, value in settings.items():
                _set(point, path, value, f"grid.{label}")
            validate(point)
            overrides = [f"{path}={value}" for path, value in settings.items()]
            jobs.append(Job(label, point, [*chosen, *overrides, f"seed={seed}"]))
    changes = [text for text in given if text.lstrip("+~").split("=")[0].split(".")[0] not in NEUTRAL]
    label = "custom" if changes else base["tier"]
    return Plan(base["experiment"] or "sweep", label, Path(base["results"]), jobs, changes)


def grid_entries(config: dict) -> list[tuple[str, dict[str, str], dict[str, list]]]:
    """(label, chosen groups, axes by path) of each entry of the tier's grid, or of the paper's where it has none.

    In the smoke tier an axis keeps two points.
    """
    unknown = [key for key in config["grid"] if key not in TIERS]
    if unknown:
        raise ConfigError(f"grid.{unknown[0]}: a grid belongs to a tier, {' '.join(TIERS)}: grid.paper.{unknown[0]}")
    grid = config["grid"].get(config["tier"]) or config["grid"].get("paper")
    if not grid:
        raise ConfigError("nothing to sweep: choose experiment=..., or give 'grid={paper: {sgd: {lr: [0.1]}}}'")
    entries = []
    for label, entry in grid.items():
        groups = {"optimizer": label} | {key: value for key, value in entry.items() if isinstance(value, str)}
        axes = {
            key if "." in key else f"optimizer.{key}": values[:2] if config["tier"] == "smoke" else values
            for key, values in entry.items()
            if isinstance(values, list)
        }
        entries.append((label, groups, axes))
    return entries


def _set(config: dict, path: str, value, where: str) -> None:
    section, key = path.split(".")
    if key not in config.get(section, {}):
        raise ConfigError(f"{where}: there is no setting {path}")
    config[section][key] = value
