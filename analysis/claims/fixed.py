"""Was a claim fixed before the runs that judge it? Answered by git's history of the two commits.

Git's answers are kept in results/ancestry.csv, a row for each pair of commits, for clones without history.
"""

import functools
import subprocess
from collections.abc import Iterable
from pathlib import Path

from runs import table

ROOT = Path(__file__).resolve().parents[2]
BEFORE, AFTER, UNKNOWN = "before", "after", "not known"


class Ancestry:
    """Which commits are ancestors of which, from git, or if it cannot tell, from the table in `results`."""

    def __init__(self, results: Path):
        self.path = results / "ancestry.csv"
        try:
            rows = table.read(self.path)
        except FileNotFoundError:
            rows = []
        self.known = {(row["fixed"], row["commit"]): row["before"] for row in rows}

    def before(self, fixed: str, commits: Iterable[str | None]) -> str:
        """Is `fixed` an ancestor of all these commits, or one of them? The + of a changed work tree is ignored."""
        found = {self._pair(fixed, commit) for commit in commits}
        if None in found:
            return UNKNOWN
        return BEFORE if found == {True} else AFTER

    def _pair(self, fixed: str, commit: str | None) -> bool | None:
        if commit is None:
            return None
        pair = fixed, commit.rstrip("+")
        if pair not in self.known:
            says = ancestor(*pair)
            if says is None:
                return None
            self.known[pair] = says
        return self.known[pair]

    def write(self) -> None:
        rows = [
            {"fixed": fixed, "commit": commit, "before": says} for (fixed, commit), says in sorted(self.known.items())
        ]
        table.write(self.path, rows)


@functools.cache
def ancestor(one: str, other: str) -> bool | None:
    """Is commit `one` an ancestor of `other`, or the same? None if git cannot tell."""
    try:
        done = subprocess.run(["git", "merge-base", "--is-ancestor", one, other], cwd=ROOT, capture_output=True)
    except OSError:
        return None
    return {0: True, 1: False}.get(done.returncode)
