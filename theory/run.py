"""Runs everything: the units of work, distributed over processes, and the tables that they fill."""

import multiprocessing
import platform
import signal
import time
from collections.abc import Iterator

import torch
from tqdm import tqdm

from . import batch, bounds, experiment, mnist, remarks, steps
from .names import ORACLES, PROBLEMS
from .settings import Theory

TABLES = ("bounds", "remarks", "steps", "mnist", "batch")


def compute(settings: Theory) -> tuple[dict[str, list[dict]], dict]:
    """The rows of each table and their provenance. Numbers depend only on the settings, not on the workers."""
    began = time.monotonic()
    if settings.mnist.run or settings.batch.run:
        mnist.mnist.fetch(settings.data_dir)  # raises now instead of after minutes, and in one process
    tables: dict[str, list[dict]] = {name: [] for name in TABLES}
    todo = [unit for unit in units(settings) if not settings.only or unit[0] in settings.only]
    with tqdm(total=len(todo), unit="part", disable=None if settings.progress else True) as bar:
        for table, rows in _spread(todo, settings):
            tables[table] += rows
            bar.update()
    tables["bounds"].sort(key=_place)
    if not settings.only:
        tables["remarks"] += remarks.rates(settings, tables["bounds"])
    tables["steps"].sort(key=lambda row: (PROBLEMS.index(row["problem"]), row["gamma"], row["beta"], row["rule"]))
    tables["mnist"].sort(key=lambda row: (row["gamma"], row["use"], row["rule"], row["value"], row["seed"]))
    tables["batch"].sort(key=lambda row: (row["seed"], row["epoch"], row["gamma"], row["batch"]))
    provenance = {
        "repetitions": settings.repetitions,
        "judged_by": {
            "gamma": settings.batch.path_gamma,
            "cosine": settings.thresholds.cosine,
            "level": settings.thresholds.level,
        },
        "seconds": round(time.monotonic() - began, 1),
        "workers": settings.workers,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    return tables, provenance


def units(settings: Theory) -> list[tuple]:
    """The units that can be computed separately, the longest first: (table, arguments of its function)."""
    parts = [("mnist", gamma) for gamma in settings.mnist.gammas if settings.mnist.run]
    parts += [("batch", seed) for seed in settings.batch.seeds if settings.batch.run]
    parts += [("bounds", task) for task in experiment.tasks(settings)]
    return [*parts, ("remarks",), *(("steps", *case) for case in steps.cases(settings))]


def work(unit: tuple, settings: Theory) -> tuple[str, list[dict]]:
    """The rows of a unit, and the table they belong to."""
    table, *arguments = unit
    function = {"bounds": experiment.measure, "remarks": remarks.everything, "steps": steps.compare,
                "mnist": mnist.compare, "batch": batch.compare}[table]  # fmt: skip
    return table, function(*arguments, settings)


def _spread(todo: list[tuple], settings: Theory) -> Iterator[tuple[str, list[dict]]]:
    """The results of all units, in any order, from processes of one thread each."""
    if settings.workers == 1:
        _prepare()
        yield from (work(unit, settings) for unit in todo)
        return
    with multiprocessing.get_context("spawn").Pool(settings.workers, _prepare_worker) as pool:
        yield from pool.imap_unordered(_Work(settings), todo)


class _Work:
    """`work` with its settings, as a picklable callable."""

    def __init__(self, settings: Theory):
        self.settings = settings

    def __call__(self, unit: tuple) -> tuple[str, list[dict]]:
        return work(unit, self.settings)


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C and ends the others
    _prepare()


def _prepare() -> None:
    torch.set_num_threads(1)


def _place(row: dict) -> tuple:
    kinds = ("exact", *ORACLES)
    return (bounds.THEOREMS.index(row["theorem"]), PROBLEMS.index(row["problem"]), kinds.index(row["oracle"]),
            row["n"], row["T"], row["gamma"], row["beta"])  # fmt: skip
