"""SLURM: what tests/test_slurm.py does with a real one, where it is installed; else it is not run, and said so."""

import os
import re
import subprocess
import sys

from tests.helpers import ROOT
from tests.test_slurm import missing

from .harness import Table

NAME = (
    "SLURM: jobs killed, cancelled, requeued, preempted, out of time; a node that dies; a sweep that is stopped; "
    "what sbatch refuses"
)


def real_cluster(table: Table) -> None:
    if lacking := missing():
        table.notes.append(f"{NAME}: not run here, needs {'; '.join(lacking)}.")
        return
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    chosen = ["-m", "slow", "-k", "not forty"]  # that test is about the GPUs' use, and keeps both cores busy
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", *chosen, "tests/test_slurm.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    for what, counted in (("same", "passed"), ("lost", "failed"), ("lost", "error")):
        found = re.search(rf"(\d+) {counted}", done.stdout)
        for _ in range(int(found[1]) if found else 0):
            table.add(NAME, what, done.stdout[-2000:])
