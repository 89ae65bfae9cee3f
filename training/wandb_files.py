"""W&B's files in a run's folder: the run's id on W&B, and logs that the server may not have received yet.

<run>/wandb/id                                   the id of this copy of the run on W&B
<run>/wandb/logged                               that id, and the last step logged by a session that ended properly
<run>/wandb/offline-run-<time>-<id>/run-<id>.wandb   what was logged offline; and <file>.synced once a server has it
<run>/wandb/run-<time>-<id>/run-<id>.wandb           the same for what was logged online

With `wandb.folder` <run>/wandb is a link to <wandb.folder>/<run's name>.
"""

import json
import secrets
import subprocess
from pathlib import Path

from runs.files import write_text

SENT = ".synced"  # W&B's own mark, beside a file
EMPTY = 7  # bytes of a file whose process was killed before it wrote anything


class Files:
    def __init__(self, folder: Path):
        self.folder = folder / "wandb"

    def move_to(self, place: Path) -> None:
        """Let new files lie at `place`; a folder or link that this run has already stays. Raises OSError."""
        if not self.folder.is_symlink() and not self.folder.exists():
            self.folder.symlink_to(place.absolute())
        self.folder.resolve().mkdir(parents=True, exist_ok=True)

    def id(self) -> str:
        """The id of this copy; a new one if it has none yet.

        It begins with the run's own id. The rest is random, so that two people who train the same run in one W&B
        project get two runs there.
        """
        try:
            return (self.folder / "id").read_text().strip()
        except FileNotFoundError:
            return self.new_id()

    def new_id(self) -> str:
        return f"{self.folder.parent.name.rsplit('-', 1)[-1]}-{secrets.token_hex(3)}"

    def keep_id(self, id: str) -> None:
        write_text(self.folder / "id", id + "\n")

    def logged(self, id: str) -> int:
        """The last step logged under this id by sessions that ended properly; W&B may still be writing their files."""
        try:
            known, step = (self.folder / "logged").read_text().split()
        except (FileNotFoundError, ValueError):
            return -1
        return int(step) if known == id else -1

    def keep_logged(self, id: str, step: int) -> None:
        write_text(self.folder / "logged", f"{id} {step}\n")

    def unsent(self, kind: str, id: str = "*") -> list[Path]:
        """The files that a server may lack, oldest first; kind: "offline-run", "run" or "*run"."""
        return [path for path in self._all(kind, id) if not path.with_name(path.name + SENT).exists()]

    def mark_sent(self, id: str) -> None:
        for path in self._all("*run", id):
            path.with_name(path.name + SENT).touch()

    def rows(self, id: str) -> dict[int, dict]:
        """What was logged under this id on this machine, by step, as W&B's own program reads it."""
        return {row["_step"]: row for path in self._all("*run", id) for row in rows_of(path)}

    def _all(self, kind: str, id: str) -> list[Path]:
        found = self.folder.glob(f"{kind}-[0-9]*_[0-9]*-{id}/run-{id}.wandb")
        return sorted((path for path in found if path.stat().st_size > EMPTY), key=lambda path: path.parent.name[-40:])


def rows_of(path: Path) -> list[dict]:
    return [record["history"]["item"] for record in records_of(path) if record["type"] == "history"]


def records_of(path: Path) -> list[dict]:
    """The records of a .wandb file, read by `wandb leet inspect --json`; of a truncated file those that are whole."""
    from wandb.util import get_core_path  # the binary itself: the `wandb` command takes seconds to start

    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", "--run-file", path, path.parent]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return [json.loads(line) for line in shown.stdout.splitlines()]
