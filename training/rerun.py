"""Train an archived run again on this machine and compare its rows with the archived ones."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from runs import archive, schema
from runs.identity import identity, nested, science, settled
from runs.schema import Config, ConfigError
from runs.table import column

from .execute import execute

TIMES = {"seconds", "images_per_second"}
BITS = ("device", "processor", "threads", "torch")  # what the exact bits of a result depend on
LAST = ("train_acc", "test_acc")
CLOSE = 0.01  # largest relative difference called close; on another processor rounding differences grow


def archived(which: str, results: Path) -> tuple[dict, list[dict]]:
    """An archived run's columns and tier, and its rows. which: its id, or tier/experiment:row (counted from 1).

    Raises ConfigError if there is no such run.
    """
    place, _, number = which.partition(":")
    for path in sorted(results.glob("*/archive/*-runs.csv")):
        name = path.name.removesuffix("-runs.csv")
        if number and place != f"{path.parts[-3]}/{name}":
            continue
        runs, rows = archive.read(path.parent, name)
        chosen = [run for at, run in enumerate(runs, 1) if (str(at) == number if number else run["run"] == which)]
        if chosen and chosen[0]["state"] != archive.MISSING:
            return chosen[0] | {"tier": path.parts[-3]}, [row for row in rows if row["run"] == chosen[0]["run"]]
    raise ConfigError(f"rerun={which}: no archive below {results} has this run; give an id, or tier/experiment:row")


def config_of(run: dict, here: dict, epochs: int | None) -> Config:
    """The archived run's scientific settings, with the operational ones of the plain config `here`.

    Raises ConfigError if these settings no longer give the run's id.
    """
    settings = json.loads(run["config"])
    files = {f"dataset.{key}": here["dataset"][key] for key in ("verify", "workers")}
    operational = {key: value for key, value in here.items() if key not in nested(science(here))}
    plain = operational | nested(files | settings) | {"tier": run["tier"], "planned": None}
    plain["runs"] = str(Path(here["results"]) / "reruns")
    found = settled(asdict(schema.build(plain)))
    if identity(found) != run["run"]:
        raise ConfigError(f"rerun={run['run']}: its archived settings now give another id, {identity(found)}")
    return schema.build(found | {"epochs": epochs or found["epochs"]})


def rerun(which: str, here: dict, epochs: int | None, show: Callable[[dict], None]) -> tuple[bool, list[str]]:
    """Whether the rerun agrees with the archive, and the lines to print: one an epoch, a summary, the last epoch.

    It agrees if every row is identical or close; on a machine that differs in BITS nothing is required. epochs: fewer
    than the archived run's, or None for all.
    """
    run, rows = archived(which, Path(here["results"]))
    config = config_of(run, here, epochs)
    ours = execute(config, show)
    compared = [compare(old, new) for old, new in zip(rows, ours.rows(), strict=False)]
    lines = [f"epoch {row['epoch']:3}  {verdict}" for row, (_, verdict) in zip(rows, compared, strict=False)]
    worst = max((difference for difference, _ in compared), default=math.inf)
    expected = min(len(rows), config.epochs)
    if len(compared) < expected:
        return False, [*lines, f"{ours.name} ended after {len(compared)} of {expected} epochs"]
    same = sum(difference == 0 for difference, _ in compared)
    theirs, here_too = run["environment"], ours.status()["environment"]
    other = [f"{key} {theirs.get(key)} there, {here_too[key]} here" for key in BITS if theirs.get(key) != here_too[key]]
    lines.append(f"{run['run']} of {run['label']}: {same} of {expected} rows identical, largest relative difference "
                 f"{worst:.2g}; {ours.folder}")  # fmt: skip
    last = [f"{key} {rows[expected - 1][key]:.6g} there, {ours.rows()[-1][key]:.6g} here" for key in LAST]
    lines.append(f"after epoch {expected}: {', '.join(last)}")
    if other:
        lines.append(f"another environment, where rounding differences grow: {'; '.join(other)}")
    return bool(other) or worst <= CLOSE, lines


def compare(old: dict, new: dict) -> tuple[float, str]:
    """The largest relative difference between two rows, at the archive's six digits, and a verdict in words.

    If only counts differ (dead units), the rows are not identical, but close.
    """
    worst, where = 0.0, ""
    for key in sorted(old.keys() & new.keys() - TIMES - {"run", "epoch"}):
        a, b = (None if value is None else float(f"{value:.6g}") for value in (old[key], new[key]))
        if a == b or repr(a) == repr(b):  # nan equals nan
            continue
        if a is None or b is None or not math.isfinite(a) or not math.isfinite(b):
            difference = math.inf
        else:
            difference = 1e-6 if column(key).kind is int else abs(a - b) / max(abs(a), abs(b))
        if difference > worst:
            worst, where = difference, key
    if worst == 0:
        return 0.0, "identical"
    return worst, f"{'close' if worst <= CLOSE else 'different'}: {where} differs by {worst:.2g} of its size"
