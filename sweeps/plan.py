"""From an experiment's question to the list of its runs, as far as the results on disk determine it.

Nothing is stored between commands: every plan replays the protocol from the runs' own records.
"""

import functools
import itertools
import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf

from runs import archive, cli, table
from runs.files import write_json
from runs.identity import science, settled
from runs.kept import kept
from runs.run import ENDED, Run
from runs.schema import TIERS, ConfigError, walk

from . import protocol

# Besides every operational setting, what a command may change without changing what the experiment asks. The paper does
# not state its numerics, so either are its own.
PLACES = {"launcher", "hydra", "numerics"}
# Not part of a run's identity, but part of what the experiment asks.
ASKED = {"seeds", "grid", "source", "protocol"}


@dataclass
class Job:
    """One run of a plan: its grid entry, stage, resolved config, and the overrides that compose that config."""

    label: str
    stage: str  # grid, refine, extend, final or report
    setting: tuple  # (path, value) pairs of the entry's axes
    config: dict
    overrides: list[str]
    archived: list[dict] | None = None  # its rows, if it counts as done because the archive has it

    @cached_property
    def run(self) -> Run:
        return Run.of(self.config)

    @cached_property
    def status(self) -> dict:
        """status.json as first read; for its present content make a new plan."""
        return self.run.status()

    @cached_property
    def done(self) -> bool:
        return self.archived is not None or (self.status.get("state") in ENDED and self.run.ended())

    def rows(self) -> list[dict]:
        return self.run.rows() if self.archived is None else self.archived

    def manifest(self) -> dict:
        """What the archive and the figures need to know about the run."""
        folder = str(self.run.folder.resolve())
        return {"folder": folder, "label": self.label, "stage": self.stage, "config": science(self.config)}


@dataclass
class Selection:
    """What the protocol chose for a grid entry, why, and among which scores."""

    label: str
    chosen: protocol.Score
    reason: str
    scores: list[protocol.Score]


@dataclass
class Plan:
    experiment: str
    label: str  # the tier, or "custom" if the command changes more than where and how runs are trained
    results: Path
    jobs: list[Job]
    changes: list[str]  # overrides that make it custom
    selections: list[Selection] = field(default_factory=list)
    waiting: list[tuple[str, dict]] = field(default_factory=list)  # label, and a config like that of the run to come
    elsewhere: dict[str, list[Job]] = field(default_factory=dict)  # by label: runs of another experiment that tune it
    only: list[str] = field(default_factory=list)  # the entries to train; empty: all

    @property
    def path(self) -> Path:
        return self.results / self.label / f"plan-{self.experiment}.json"

    def missing(self) -> list[Job]:
        return [job for job in self.jobs if not job.done]

    @property
    def to_come(self) -> list[dict]:
        """Configs like those of the runs whose setting is not chosen yet, as far as they can be counted."""
        return [config for _, config in self.waiting]

    def hangs_on(self) -> set[str]:
        """Names of the runs whose end may change the plan."""
        return {job.run.name for jobs in (self.jobs, *self.elsewhere.values()) for job in jobs}

    def asked(self, labels: tuple[str, ...] = ()) -> tuple[list[Job], list[dict]]:
        """The missing runs of these entries (empty: all), other experiments' tuning runs first; and what is to come."""
        chosen = labels or tuple(dict.fromkeys([*(job.label for job in self.jobs), *self.elsewhere]))
        tuning = {job.run.id: job for label in chosen for job in self.elsewhere.get(label, []) if not job.done}
        own = [job for job in self.missing() if job.label in chosen]
        return [*tuning.values(), *own], [config for label, config in self.waiting if label in chosen or not labels]

    def wanted(self) -> list[Job]:
        """The jobs that this command is to train: the missing ones, only those of the entries in `only` if given.

        Includes the runs with which another experiment chooses these entries' settings.
        """
        return self.asked(tuple(self.only))[0]

    @property
    def content(self) -> dict:
        """Which runs the figure is made of."""
        return {
            "experiment": self.experiment,
            "tier": self.label,
            "changes": self.changes,
            "choosing": {
                label: archive.of_optimizer(science(settled(config))) for label, config in dict(self.waiting).items()
            },
            "runs": [job.manifest() for job in self.jobs],
        }

    def write(self) -> Path:
        """Write the list of runs that the figure is made of, for figures/ to read."""
        write_json(self.path, self.content)
        if self.selections:
            path = self.path.with_name(f"selection-{self.experiment}.csv")
            table.write(path, selection_rows(self.selections))
        return self.path


class Experiment:
    """The composed experiment. Composing takes 0.1 s, so it is done once a choice of groups; points differ in values.

    config: what Hydra composed from the command line `given`, or the same as a plain dict. Must be called under
    @hydra.main. Raises ConfigError if there is no grid or a value is out of range.
    """

    def __init__(self, config: DictConfig | dict, given: list[str]):
        self.base, self.given = config if isinstance(config, dict) else cli.plain(config), given
        self.protocol = self.base["protocol"]
        self.entries = []
        for label, groups, axes, settings_of in grid_entries(self.base):
            self.entries.append(Entry(label, given, groups, axes, settings_of))
        shared = {path: values for path, values in self.entries[0].axes.items() if not path.startswith("optimizer.")}
        for label in _distinct(self.base["also"]):
            entry = Entry(label, given, {"optimizer": label}, {}, None)
            grid = entry.composed["optimizer"].get("grid") or {}
            axes = _axes({f"optimizer.{key}": values for key, values in grid.items()}, self.base["tier"])
            if not axes:
                raise ConfigError(
                    f"also={label}: configs/optimizer/{label}.yaml has no grid, as in `grid: {{lr: [1e-3]}}`"
                )
            self.entries.append(Entry(label, given, {"optimizer": label}, axes | shared, None))
        for entry in self.entries:
            if "class_path" in (chosen := entry.composed["optimizer"]):  # to refuse it before anything is trained
                kept(["class", chosen["class_path"], chosen["code"]], partial(check_class, chosen))
        labels = {entry.label for entry in self.entries}
        for label in self.base["only"]:
            if label not in labels:
                raise ConfigError(f"only={label} is not an entry of the grid; choose from {', '.join(sorted(labels))}")
        for key, seeds in (("seeds", self.base["seeds"]), ("protocol.seeds", self.protocol["seeds"])):
            if not seeds or len(set(seeds)) < len(seeds):
                raise ConfigError(f"{key}={seeds}: give at least one seed, each once")
        both = set(self.protocol["seeds"]) & set(self.base["seeds"])
        if self.protocol["tune"] and both:
            raise ConfigError(
                f"protocol.seeds={min(both)}: a seed that selects a setting cannot also report it (`seeds`)"
            )
        self.changes = [text for text in given if not self._neutral(text.lstrip("+~").split("=")[0])]
        self.label = "custom" if self.changes else self.base["tier"]
        self.name = self.base["experiment"] or "sweep"
        self.results = Path(self.base["results"])
        self.archived: dict[str, list[dict]] = {}
        for tier in sorted({*TIERS, self.label}) if self.base["archive"] else ():  # a run has one id at all tiers
            self.archived |= archive.rows_by_run(self.results / tier)
        self.jobs: dict[tuple, Job] = {}  # by entry, stage, setting and seed, as of the latest plan

    def _neutral(self, key: str) -> bool:
        """Whether this key on the command line leaves unchanged what the experiment asks."""
        if key.split(".")[0] in PLACES | ASKED:
            return key.split(".")[0] in PLACES
        found = [
            one.science
            for one in walk(self.base)
            if f"{one.path}.".startswith(f"{key}.") or key.startswith(f"{one.path}.")
        ]
        return bool(found) and not any(found)

    def plan(self, changed: set[str] | None = None) -> Plan:
        """The plan with all runs known so far from disk. changed: names of the only runs to read again; None: all."""
        self.jobs = {at: job for at, job in self.jobs.items() if changed is not None and job.run.name not in changed}
        jobs, selections, to_come, elsewhere, tuned_elsewhere = [], {}, [], {}, {}
        for entry in self.entries:
            if not self.protocol["tune"]:
                jobs += self._jobs(entry, entry.settings(), self.base["seeds"], "grid")
                continue
            if entry.settings_of is None:
                tuned, selection = self._tune(entry)
                jobs += tuned
                selections[entry.label] = selection
                if selection is None:
                    to_come += [(entry.label, entry.composed)] * self._finals_to_come(entry, tuned)
            elif "." in entry.settings_of:
                if entry.settings_of not in tuned_elsewhere:
                    tuned_elsewhere[entry.settings_of] = self._tuned_elsewhere(entry.settings_of)
                elsewhere[entry.label], selections[entry.settings_of] = tuned_elsewhere[entry.settings_of]
            selection = selections[entry.settings_of or entry.label]
            if selection is None:
                to_come += [(entry.label, entry.composed)] * len(self.base["seeds"])
            else:
                jobs += self._jobs(entry, [selection.chosen.setting], self.base["seeds"], "report")
        found = [selection for label, selection in selections.items() if selection and "." not in label]
        only = self.base["only"]
        return Plan(self.name, self.label, self.results, jobs, self.changes, found, to_come, elsewhere, only)

    def _tune(self, entry: "Entry") -> tuple[list[Job], Selection | None]:
        """The selecting runs so far, and what they select if none of them is missing.

        With finalists, the first selecting seed narrows the settings down, and all of them choose among the best.
        """
        seeds, number = self.protocol["seeds"], self.protocol["finalists"]
        first, rest = (seeds[:1], seeds[1:]) if number else (seeds, [])
        stage, new, tried, jobs, refined, beyond = "grid", entry.settings(), [], [], None, []
        finals: list[Job] = []
        while True:
            tried = [*tried, *new]
            jobs += self._jobs(entry, new, first, stage)
            if not all(job.done for job in jobs):
                return [*jobs, *finals], None
            scores = self._scores(jobs, tried)
            best, reason = protocol.choose(scores, self.protocol["similar"])
            stage, new = "extend", self._beyond(tried, best.setting)
            beyond += new
            if not new and entry.label in self.protocol["refine"] and best != refined:
                stage, new, refined = "refine", self._refine(tried, dict(best.setting)), best
            if not new and rest and len(tried) > 1:
                known = {job.setting for job in finals}
                promoted = [one for one in protocol.finalists(scores, number) if one not in known]
                finals += self._jobs(entry, promoted, rest, "final")
                if not all(job.done for job in finals):
                    return [*jobs, *finals], None
                scores = self._scores([*jobs, *finals], tried)
                among = [score for score in scores if score.seeds == len(seeds)]
                best, reason = protocol.choose(among, self.protocol["similar"])
                reason += f"; means of {len(seeds)} seeds, {len(among)} finalists of {len(tried)} settings"
                stage, new = "extend", self._beyond(tried, best.setting)
                beyond += new
            if not new:
                reason += f"; tried beyond the grid: {'; '.join(map(protocol.spelled, beyond))}" if beyond else ""
                return [*jobs, *finals], Selection(entry.label, best, reason, scores)

    def _finals_to_come(self, entry: "Entry", tuned: list[Job]) -> int:
        """How many runs of finalists are not planned yet, unless later settings make others finalists."""
        settings = len(entry.settings())
        number = min(self.protocol["finalists"], settings) if settings > 1 else 0
        return max(0, number * (len(self.protocol["seeds"]) - 1) - sum(job.stage == "final" for job in tuned))

    def _beyond(self, tried: list[tuple], best: tuple) -> list[tuple]:
        """The settings to try so that the best is not at the edge, if the protocol asks for that."""
        return protocol.neighbours(tried, best) if self.protocol["extend"] else []

    def _refine(self, tried: list[tuple], best: dict) -> list[tuple]:
        """The settings with the next learning rates around the best one's."""
        if "optimizer.lr" not in best:
            return []
        rest = set(best.items()) - {("optimizer.lr", best["optimizer.lr"])}
        lrs = [dict(setting)["optimizer.lr"] for setting in tried if rest <= set(setting)]
        return [tuple((best | {"optimizer.lr": lr}).items()) for lr in protocol.refine(lrs, best["optimizer.lr"])]

    def _tuned_elsewhere(self, settings_of: str) -> tuple[list[Job], Selection | None]:
        """As `_tune`, for an entry of another experiment at the same tier."""
        name, _, label = settings_of.partition(".")
        chosen = [one for one in self.given if one.split("=")[0] not in ("experiment", "only", "also")]
        chosen.append(f"experiment={name}")
        other = Experiment(compose(tuple(chosen)).config, chosen)
        entry = next((entry for entry in other.entries if entry.label == label), None)
        if entry is None or entry.settings_of:
            raise ConfigError(f"settings_of={settings_of}: experiment={name} tunes no entry {label}")
        return other._tune(entry)

    def _scores(self, jobs: list[Job], tried: list[tuple]) -> list[protocol.Score]:
        column = "validation_acc" if self.protocol["select_on"] == "validation" else "test_acc"
        runs: dict[tuple, list] = {setting: [] for setting in tried}
        for job in jobs:
            runs[job.setting].append([row[column] for row in job.rows()])
        return [protocol.score(setting, accuracies, self.protocol["reach"]) for setting, accuracies in runs.items()]

    def _held_out(self, dataset: dict) -> dict[str, int]:
        """What selecting runs are evaluated on. A subset grows by it, so that they train on as many images."""
        subset, images = dataset["subset"], dataset["sizes"][0]
        held = min(self.protocol["validation"], images // 10)
        if subset is None or subset + held > images:
            return {"dataset.validation": min(held, (subset or images) // 10)}
        return {"dataset.validation": held, "dataset.subset": subset + held}

    def _jobs(self, entry: "Entry", settings: list[tuple], seeds: list[int], stage: str) -> list[Job]:
        selects = stage != "report" and self.protocol["tune"] and self.protocol["select_on"] == "validation"
        fixed = self._held_out(entry.composed["dataset"]) if selects else {}
        jobs = []
        for seed, setting in itertools.product(seeds, settings):
            values = fixed | dict(setting)
            at = entry.label, stage, repr(setting), seed
            job = self.jobs.get(at)
            if job is None:
                overrides = [*entry.chosen, *entry.spelled(values), f"seed={seed}"]
                job = Job(entry.label, stage, setting, entry.point(values, seed), overrides)
                if self.archived and not job.run.ended():
                    job.archived = self.archived.get(job.run.id)
                self.jobs[at] = job
            jobs.append(job)
        return jobs


class Entry:
    """One entry of a grid: the overrides that compose it, and its axes by the path of the setting that each varies.

    given: the experiment's overrides. groups: what the entry chooses besides. settings_of: the entry whose chosen
    setting this one takes. Raises ConfigError.
    """

    def __init__(
        self, label: str, given: list[str], groups: dict[str, str], axes: dict[str, list], settings_of: str | None
    ):
        self.label, self.axes, self.settings_of = label, axes, settings_of
        self.chosen = [*given, *(f"{group}={option}" for group, option in groups.items())]
        chosen_before = groups.items() <= compose(tuple(given)).choices.items()
        self.composed, self.read_by_others, _ = compose(tuple(given if chosen_before else self.chosen))
        for path in axes:
            if path.endswith(".name"):
                raise ConfigError(
                    f"grid.{label}: {path} names an option; choose the group, {path.removesuffix('.name')}"
                )

    def settings(self) -> list[tuple]:
        return [tuple(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]

    def spelled(self, values: dict) -> list[str]:
        return [f"{path}={json.dumps(value)}" for path, value in values.items()]

    def point(self, values: dict, seed: int) -> dict:
        """The config of one run, as its command line would compose it; shares unchanged sections with the entry's.

        Composing takes 0.1 s, so values are put into the entry's config, except those that other settings interpolate.
        """
        read = {path: value for path, value in values.items() if self._is_read(path)}
        base = compose((*self.chosen, *self.spelled(read))).config if read else self.composed
        point: dict = base | {"seed": seed}
        for path, value in values.items():
            *sections, key = path.split(".")
            part = point
            for section in sections:
                if not isinstance(part.get(section), dict):
                    raise ConfigError(f"grid.{self.label}: there is no setting {path}")
                part[section] = part = dict(part[section])
            part[key] = list(value) if isinstance(value, tuple) else value
        return settled(point, checked=base)

    def _is_read(self, path: str) -> bool:
        return any(
            f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}.") for other in self.read_by_others
        )


def check_class(chosen: dict) -> None:
    from training.build import load_class

    load_class(chosen["class_path"], chosen["code"])


class Composed(NamedTuple):
    """The resolved config of a command line, the paths that its settings interpolate, and each group's option."""

    config: dict
    interpolated: set[str]
    choices: dict[str, str | None]


@functools.lru_cache(maxsize=1024)
def compose(overrides: tuple[str, ...]) -> Composed:
    """Compose a command line. Under @hydra.main."""

    def composed() -> tuple[dict, list[str], dict]:
        whole = cli.recomposed(overrides)
        config = cli.without_hydra(whole)
        text = json.dumps(OmegaConf.to_container(config))
        read = re.findall(r"\$\{(?:oc\.select:)?([a-z_.]+)", text)
        return cli.resolved(config), read, dict(whole.hydra.runtime.choices)

    places = {name: value for name, value in os.environ.items() if name.startswith("POWERSGD_")}
    key = ["composed", overrides, cli.hydra_overrides(), places]
    config, read, choices = kept(key, composed) if cli.own_files() else composed()
    return Composed(cli.settled_here(config), {path.rstrip(".") for path in read}, choices)


def grid_entries(config: dict) -> list[tuple[str, dict[str, str], dict[str, list], str | None]]:
    """(label, chosen groups, axes by path, settings_of) of each entry of the tier's grid, by default the paper's.

    An entry is named after its optimizer, or says `optimizer: name`; it may choose any other group in the same way
    (`schedule: warm_restarts`). Its lists are the axes: `lr` and other settings of the optimizer, or paths such
    as `model.depth`. `settings_of: sgdm` takes what the protocol chose for that entry, `settings_of: fig1ab.sgdm` what
    it chose in another experiment. In the smoke tier each axis keeps its first two points.
    """
    unknown = [key for key in config["grid"] if key not in TIERS]
    if unknown:
        raise ConfigError(f"grid.{unknown[0]}: name a tier first ({' '.join(TIERS)}), as in grid.paper.{unknown[0]}")
    grid = config["grid"].get(config["tier"]) or config["grid"].get("paper")
    if not grid:
        raise ConfigError("nothing to sweep: choose experiment=..., or give a grid: '+grid.paper.sgd.lr=[0.1,0.01]'")
    entries, before = [], []
    for label, entry in grid.items():
        settings_of = entry.get("settings_of")
        known = settings_of is None or settings_of in before or "." in settings_of
        if not known or (settings_of and not config["protocol"]["tune"]):
            raise ConfigError(f"grid.{label}.settings_of={settings_of}: name an entry above it, in a tuned experiment")
        before.append(label)
        groups = {key: value for key, value in entry.items() if isinstance(value, str) and key != "settings_of"}
        for key, value in entry.items():
            if not isinstance(value, (str, list)):
                raise ConfigError(f"grid.{label}.{key}={value}: give a list of values, [{value}]")
            if not value:
                raise ConfigError(f"grid.{label}.{key}={value}: give at least one value")
        entries.append((label, {"optimizer": label} | groups, _axes(entry, config["tier"]), settings_of))
    return entries


def _axes(entry: dict, tier: str) -> dict[str, list]:
    return {
        key if "." in key else f"optimizer.{key}": _distinct(values)[:2] if tier == "smoke" else _distinct(values)
        for key, values in entry.items()
        if isinstance(values, list)
    }


def _distinct(values: list) -> list:
    """Without repetitions, and lists as tuples, since settings are keys of tables."""
    hashable = [tuple(value) if isinstance(value, list) else value for value in values]
    return [value for index, value in enumerate(hashable) if value not in hashable[:index]]


def selection_rows(selections: list[Selection]) -> list[dict]:
    """A row for every setting that took part in a selection."""
    rows = []
    for selection in selections:
        for score in selection.scores:
            chosen = score == selection.chosen
            rows.append({
                "label": selection.label,
                "setting": protocol.spelled(score.setting),
                "best_accuracy": score.accuracy,
                "epochs_to_reach": score.epochs,
                "selecting_seeds": score.seeds,
                "chosen": "yes" if chosen else "",
                "reason": selection.reason if chosen else "",
            })  # fmt: skip
    return rows


def in_turns(jobs: list[Job]) -> list[Job]:
    """A run of each entry in turn, first seeds first and from the middle of each list outwards.

    So a sweep soon has a first run of every entry, in a grid of odd numbers with its middle setting.
    """
    cells: dict[tuple, list[Job]] = {}
    for job in jobs:
        cells.setdefault((job.label, job.config["seed"]), []).append(job)
    entries: dict[str, list[Job]] = {}
    for (label, _), cell in cells.items():
        middle = (len(cell) - 1) / 2
        outwards = sorted((abs(place - middle), place) for place in range(len(cell)))
        entries.setdefault(label, []).extend(cell[place] for _, place in outwards)
    return [job for turn in itertools.zip_longest(*entries.values()) for job in turn if job]


def counts(jobs: list[Job]) -> Counter:
    """How many jobs are finished, diverged, running, stopped, failed, waiting, or in the archive."""
    return Counter(state(job) for job in jobs)


def state(job: Job) -> str:
    if job.archived is not None:
        return "archived"
    status = job.status.get("state", "waiting")
    if status in ENDED:
        return status if job.done else "stopped"
    if status == "running":
        return "running" if job.run.busy() else "stopped"
    return status
