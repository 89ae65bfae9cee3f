"""The fields of a claim in claims.yaml: its text, its place in the paper, its test, and the commit that fixed it.

Each kind of test is a class in entries.py, grids.py, counts.py or facts.py, whose fields are its arguments. A file with
a wrong name, a missing threshold or an unknown experiment is refused when it is read.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import pandas as pd
import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from analysis import records
from runs.archive import MISSING
from runs.schema import ConfigError

EXPERIMENTS = Path(__file__).resolve().parents[2] / "configs" / "experiment"


class ClaimError(ConfigError):
    """claims.yaml is wrong; the message is one line that names the claim and the field."""


class Archive(NamedTuple):
    """The runs of an experiment at a tier: a row for each planned run, and for each epoch of those that have ended."""

    tier: str
    experiment: str
    runs: pd.DataFrame
    epochs: pd.DataFrame

    @classmethod
    def load(cls, results: Path, tier: str, experiment: str) -> "Archive":
        return cls(tier, experiment, *records.load(results / tier / "archive", experiment))

    def only(self, keep: pd.Series) -> "Archive":
        """The archive with only these runs (a mask over `runs`)."""
        runs = self.runs[keep]
        return self._replace(runs=runs, epochs=self.epochs[self.epochs["run"].isin(runs["run"])])

    def ended(self) -> pd.DataFrame:
        return self.runs[self.runs["state"] != MISSING]


NO_RUNS = Archive("", "", pd.DataFrame(), pd.DataFrame())


class NoVerdict(Exception):
    """There is nothing to judge yet; the message says what is missing."""


class Interval(NamedTuple):
    """One comparison in numbers, to be drawn."""

    name: str
    verdict: str
    value: float
    low: float
    high: float
    between: tuple[float | None, float | None]  # where it must lie; None: no bound
    form: str  # of the numbers


class Finding(NamedTuple):
    verdict: str
    evidence: str
    numbers: str = ""  # the evidence without verdicts, if it contains some
    intervals: tuple[Interval, ...] = ()  # its comparisons, if it is more than a count
    hours: float | None = None  # of one core, to decide an inconclusive claim with 80 % power; None: not known


def _experiment(name: str) -> str:
    if not (EXPERIMENTS / f"{name}.yaml").exists():
        raise ValueError(f"there is no configs/experiment/{name}.yaml")
    return name


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _bounds(value: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    low, high = value
    if value == (None, None) or (low is not None and high is not None and low >= high):
        raise ValueError(f"{list(value)} is no range; give [least, most], null for no bound")
    return value


Experiment = Annotated[str, AfterValidator(_experiment)]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
Bounds = Annotated[tuple[float | None, float | None], AfterValidator(_bounds)]
Share = Annotated[float, Field(gt=0, le=1)]
Column = Literal["train_acc", "test_acc", "train_loss"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Settings(Strict):
    """A selection of runs: columns of the archive and the values they must have; null: empty."""

    label: str | None = None
    model: str | None = None
    optimizer: str | None = None
    depth: int | None = None
    init: str | None = None
    initial_lr: float | None = None
    gamma: float | None = None

    def chosen(self, runs: pd.DataFrame) -> pd.Series:
        """A mask over the rows of a table."""
        mask = pd.Series(True, index=runs.index)
        for name in self.model_fields_set:
            value = getattr(self, name)
            mask &= runs[name].isna() if value is None else (runs[name] == value).fillna(False).astype(bool)
        return mask

    def __or__(self, other: "Settings") -> "Settings":
        return Settings(**self.model_dump(exclude_unset=True) | other.model_dump(exclude_unset=True))


class Claim(Strict):
    """A statement with its test. Subclasses have the test's arguments as fields."""

    claim: str  # in our words, as precise as the test
    says: str = ""  # the paper's words; empty: not in the paper
    section: str
    objection: str  # the strongest one to the verdict
    fixed: Annotated[str, StringConstraints(pattern="^[0-9a-f]{12}$")] | None = None  # null: nothing to fix
    was: str | None = None  # its key in that commit, if it was another
    regime: Literal["late", "early", "any"] = "any"  # of the runs that can judge it; see regimes.py
    experiment: Annotated[tuple[Experiment, ...], BeforeValidator(_listed)] = ()
    networks: tuple[str, ...] = ()  # each gets a verdict
    test: str
    plannable: ClassVar[bool] = True  # whether runs of the experiment's own plan can decide it

    def judged(self, archive: Archive) -> pd.Series:
        """The runs on which the verdict rests, as a mask over the archive's runs."""
        return pd.Series(True, index=archive.runs.index)

    def needs(self) -> list[Settings]:
        """What must be in the grid of the experiment."""
        settings = getattr(self, "settings", None)
        return [settings] if isinstance(settings, Settings) else []

    def judge(self, archive: Archive) -> Finding:
        """The verdict and its evidence. Raises NoVerdict if runs that it needs are missing."""
        raise NotImplementedError


def grid_labels(experiment: str) -> set[str]:
    """The entries of an experiment's grid at any tier."""
    return set().union(*_asked(experiment)["grid"].values())


def lacks(claim: Claim, experiment: str, tier: str, network: str | None = None) -> str:
    """In words, what the claim needs and the experiment's grid at a tier does not have; "" if nothing."""
    asked = _asked(experiment)
    grid = asked["grid"].get(tier) or asked["grid"]["paper"]
    groups = {group.split("/")[-1]: option for part in asked["defaults"] for group, option in part.items()}
    rows = [{"label": label, "optimizer": label, "model": groups["model"]} | entry for label, entry in grid.items()]
    for need in claim.needs() or [Settings()]:
        wanted = {
            name: getattr(need, name) for name in ("label", "optimizer", "model") if name in need.model_fields_set
        }
        wanted |= {"model": network} if network else {}
        if not any(wanted.items() <= row.items() for row in rows):
            return f"not in the grid of tier {tier}: {', '.join(map(str, wanted.values()))}"
    return ""


def paper_labels(experiment: str) -> set[str]:
    """The entries of its grid at the paper's own tier: without controls and without optimizers that someone added."""
    return set(_asked(experiment)["grid"]["paper"])


def chooses(experiment: str) -> bool:
    """Whether the protocol chooses the experiment's settings, so that only some of its runs are reported."""
    return _asked(experiment).get("protocol", {}).get("tune", False)


@cache
def _asked(experiment: str) -> dict:
    return yaml.safe_load((EXPERIMENTS / f"{experiment}.yaml").read_text())
