"""How many deliberate one-line mistakes the tests notice: `make mutants`.

mutmut (configured in pyproject.toml) copies the code to mutants/, makes one mistake at a time in the modules that all
results depend on, and runs the tests that execute it. tests/mutants.md says what survives and why.
Exit status 1 if less than 90 % are noticed.
"""

import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEAST = 0.9
NOTICED = {"killed", "timeout"}  # of a mistake that makes a loop endless


def mutmut(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "mutmut", *arguments], cwd=ROOT, check=True, text=True, **options)


def main() -> None:
    shutil.rmtree(ROOT / "mutants", ignore_errors=True)  # it would trust its old results although the tests changed
    mutmut("run")
    lines = mutmut("results", "--all", "true", stdout=subprocess.PIPE).stdout.splitlines()
    states = dict(line.strip().split(": ") for line in lines if "__mutmut_" in line)
    modules: defaultdict[str, Counter] = defaultdict(Counter)
    for mutant, state in states.items():
        modules[mutant.rsplit(".", 1)[0]][state in NOTICED] += 1
        if state not in NOTICED:
            print(f"{state}: {mutant}")
            diff = mutmut("show", mutant, stdout=subprocess.PIPE).stdout.splitlines()
            print(*(line for line in diff if line[:1] in "+-" and line[:3] not in ("+++", "---")), sep="\n")
    for module, counted in modules.items():
        print(f"{module:32} {counted[True]:4} of {counted.total():4} noticed, {counted[True] / counted.total():.1%}")
    noticed = sum(counted[True] for counted in modules.values())
    print(f"{'all':32} {noticed:4} of {len(states):4} noticed, {noticed / len(states):.1%} (at least {LEAST:.0%})")
    sys.exit(noticed < LEAST * len(states))


if __name__ == "__main__":
    main()
