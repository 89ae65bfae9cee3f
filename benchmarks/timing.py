"""Shared by the benchmarks: time several callables in turn, print a table, save the numbers.

The callables take turns within each round, so that load from other programs affects all of them equally.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch


def seconds(
    calls: Mapping[str, Callable[[], object]], rounds: int, sync: Callable[[], None] = lambda: None
) -> dict[str, dict[str, float]]:
    """{name: {"best": s, "median": s}} over the rounds, after one warm-up round.

    sync: waits until the device has finished, e.g. torch.cuda.synchronize.
    """
    times = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            sync()
            start = time.perf_counter()
            call()
            sync()
            times[name].append(time.perf_counter() - start)
    return {name: {"best": min(t[1:]), "median": statistics.median(t[1:])} for name, t in times.items()}


def print_table(cases: dict[str, dict[str, float]], ratios: list[tuple[str, str]], unit: str) -> None:
    """Print a line per case: a column per name, then for each (name, peer) the ratio name / peer."""
    names = list(next(iter(cases.values())))
    rows = [[unit, *names, *(f"{name}/{peer}" for name, peer in ratios)]]
    for case, values in cases.items():
        rows.append([case, *(f"{values[name]:.3g}" for name in names)])
        rows[-1] += [f"{values[name] / values[peer]:.2f}" for name, peer in ratios]
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    for head, *cells in rows:
        print(head.ljust(first), *(c.rjust(w) for c, w in zip(cells, widths, strict=True)), sep="  ")


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with --json, which every benchmark has."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to this file")
    return made


def write_json(path: Path | None, cases: dict, **about: object) -> None:
    """Write the cases and what they were measured on; does nothing without a path."""
    if path:
        about |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
        about |= {"platform": platform.platform(), "cpu": torch.backends.cpu.get_cpu_capability()}
        path.write_text(json.dumps({**about, "cases": cases}, indent=1) + "\n")
