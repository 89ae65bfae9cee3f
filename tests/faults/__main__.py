"""`make test-faults`: what happens to runs, archives, figures, merges and reports under thousands of faults.

    python -m tests.faults [--share 1.0] [--jobs 2] [--only WORD] [--write]

Prints the table; exit status 1 if anything was lost, silent or a traceback. --share: of the cases. --jobs: how many
parts at once. --only: the parts whose names hold the word. --write: puts the table into docs/reliability.md.
"""

import argparse
import importlib
import os
import pickle
import random
import re
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path

from .harness import Table, preload

ROOT = Path(__file__).resolve().parents[2]
WARM = ("training.execute", "training.rerun", "torchvision", "tqdm", "models", "sweeps.plan", "sweeps.launch",
        "sweeps.show", "sweeps.verify", "matplotlib.backends.backend_svg")  # fmt: skip
SLOW = {"a CNN's run": 3, "a figure": 4, "a plan's costs": 2}  # so many times fewer of their cases are tried
PATIENT = {"SLURM"}  # parts that mostly wait: they start first, beside the others
LONGEST = "command lines"  # starts next, so that nothing is left to wait for it alone
Part = Callable[[Table, Path, random.Random], object]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    preload()
    for name in WARM:
        importlib.import_module(name)
    began, table = time.monotonic(), Table()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where an fsync costs nothing
    scratch = Path(tempfile.mkdtemp(prefix="faults-", dir=memory))
    try:
        found = parts(scratch, arguments.share)
        together({name: part for name, part in found.items() if arguments.only in name}, scratch, arguments.jobs, table)
    finally:
        for folder in (scratch, Path(os.environ["LD_PRELOAD"]).parent):
            shutil.rmtree(folder, ignore_errors=True)
    minutes = (time.monotonic() - began) / 60
    about = f"{date.today()}: {minutes:.0f} minutes, {os.cpu_count()} cores, --share {arguments.share:g}."
    if arguments.only:
        about += f" Only parts with {arguments.only!r} in their names."
    lines = [*table.lines(), "", *(f"{note}\n" for note in table.notes), about]
    print("\n".join(lines))
    if arguments.write:
        path, begin, end = ROOT / "docs" / "reliability.md", "<!-- table -->\n", "<!-- end of table -->"
        written = "\n".join([begin, *lines, "", end])
        path.write_text(re.sub(f"{begin}.*?{end}", lambda _: written, path.read_text(), flags=re.S))
    return 1 if table.bad else 0


def parts(scratch: Path, share: float) -> dict[str, Part]:
    from . import damage, disk, machine, scenarios, slurm, sweeps, tracking
    from .harness import child

    def times(count: int) -> int:
        return max(1, round(count * share))

    def folder(name: str) -> Path:
        (scratch / name).mkdir()
        return scratch / name

    results = ROOT / "results"
    mlp, cnn = scenarios.run_of(scenarios.MLP, "a run"), scenarios.run_of(scenarios.CNN, "a CNN's run")
    ahead = scenarios.run_of((*scenarios.MLP, "epochs=4"), "a run ahead of its checkpoint", ahead=True)
    finished = scenarios.finished_runs(folder("finished"))
    others = (scenarios.archived(finished), scenarios.merged(finished), scenarios.planned(), scenarios.report(results),
              scenarios.figure(results))  # fmt: skip
    whole, stopped = folder("whole"), folder("stopped")
    assert child(lambda: mlp.act(whole)).status == 0
    machine.interrupt(mlp, stopped)
    forked, started = sweeps.sweep_of("a sweep"), sweeps.sweep_of("a sweep", warm=False)
    wide = sweeps.sweep_of("a sweep", "model.width=256")  # tensors for which the allocator asks the kernel
    found: dict[str, Part] = {
        "files of results": lambda table, at, choose: damage.files_of_results(results, at, table, times(100), choose),
        "files of runs": lambda table, at, choose: damage.files_of_runs(
            mlp, whole, stopped, at, table, times(30), choose
        ),
    }
    for scenario in (mlp, ahead, *others, cnn):
        part = share / SLOW.get(scenario.name, 1)
        found[f"failing calls of {scenario.name}"] = lambda table, at, choose, scenario=scenario, part=part: (
            disk.failing_calls(scenario, at, table, part, choose)
        )
    for scenario in (mlp, ahead, *others[:2]):
        found[f"power cuts of {scenario.name}"] = lambda table, at, choose, scenario=scenario: disk.power_cuts(
            scenario, at, table, max(2, times(12)), choose
        )
    return found | {
        "W&B": lambda table, at, choose: tracking.tracked(at, table, times(35), choose),
        "W&B's disk": lambda table, at, choose: tracking.full_disks(at, table, range(10, 10 + times(200), 10)),
        "sweeps": lambda table, at, choose: sweeps.disturbed(forked, at, table, times(84), choose),
        "sweeps whose workers are started": lambda table, at, choose: sweeps.disturbed(
            started, at, table, times(7), choose
        ),
        "sweeps at once": lambda table, at, choose: sweeps.at_once(forked, at, table, times(30), choose),
        "limits of sweeps": lambda table, at, choose: sweeps.limits(wide, at, table, times(24), choose),
        "no shared memory": lambda table, at, choose: sweeps.without_shared_memory([mlp, forked, started], table),
        "SLURM": lambda table, at, choose: slurm.real_cluster(table),
        "signals": lambda table, at, choose: machine.signals(mlp, at, table, times(250), choose),
        "at once": lambda table, at, choose: machine.at_once(mlp, at, table, times(30)),
        "conditions": lambda table, at, choose: machine.conditions(mlp, at, table),
        "small disks": lambda table, at, choose: machine.small_disks(mlp, at, table, range(4, 4 + times(150), 3)),
        "command lines": lambda table, at, choose: machine.command_lines(at, table, times(950), choose),
        "command lines of programs": lambda table, at, choose: machine.command_lines(
            at, table, times(50), choose, warm=False
        ),
        "few files": lambda table, at, choose: machine.few_files(at, table, (8, 12, 16, 20, 24, 32)[: times(6)]),
        "imports": lambda table, at, choose: machine.imports(at, table, times(20), choose),
    }


def together(found: dict[str, Part], scratch: Path, jobs: int, table: Table) -> None:
    """Each part in a process of its own, so many at a time; their counts are added in the order of the parts."""
    waiting, running = sorted(found, key=lambda name: (name not in PATIENT, name != LONGEST)), {}
    while waiting or running:
        if waiting and sum(name not in PATIENT for name in running.values()) < jobs:
            name = waiting.pop(0)
            pid = os.fork()
            if pid == 0:
                os._exit(alone(name, found[name], scratch))
            running[pid] = name
        else:
            pid, status = os.wait()
            running.pop(pid, None)
            if status:
                table.bad.append(f"a part of the suite itself failed: {status}")
    for name in found:
        result = scratch / f"{name}.pickle"
        if result.exists():
            part: Table = pickle.loads(result.read_bytes())
            table.bad += part.bad
            table.notes += part.notes
            for fault, counts in part.counts.items():
                table.counts[fault] = table.counts.get(fault, Counter()) + counts


def alone(name: str, part: Part, scratch: Path) -> int:
    table, at, began = Table(), scratch / name.replace("'", ""), time.monotonic()
    at.mkdir()
    try:
        part(table, at, random.Random(name))
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    finally:
        (scratch / f"{name}.pickle").write_bytes(pickle.dumps(table))
        cases = sum(counts.total() for counts in table.counts.values())
        mine, others = (resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        busy = mine.ru_utime + mine.ru_stime + others.ru_utime + others.ru_stime
        print(f"{name}: {cases} cases, {time.monotonic() - began:.0f} s, {busy:.0f} s of a core", flush=True)
        shutil.rmtree(at, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
