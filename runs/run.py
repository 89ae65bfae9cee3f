"""A run on disk: a folder that can be read without this code. Needs neither torch nor Hydra.

config.yaml            the resolved config
metrics.csv            a row an epoch
status.json            running | finished | diverged | failed, with times and environment
checkpoint.pt          the latest checkpoint; checkpoint.previous.pt is the one before (training/checkpoint.py)
log.txt                what happened when, including tracebacks
wandb/                 what W&B recorded
"""

import hashlib
import json
import os
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from . import lease, table
from .files import make_folder, write_atomically
from .identity import run_name

# The keys of status.json that other code reads, with their types
KINDS = {"state": str, "epoch": int, "updated": str, "environment": dict, "environment_changes": list, "digests": dict}
ENDED = ("finished", "diverged")  # nothing more to do; a failed run is retried when it is asked for again


class RunError(Exception):
    """A run folder that cannot be used; the message says why and what to do."""


class RunBusy(RunError):
    """Another process is writing this run."""


class Run:
    """The folder of one run. Reading needs no lock; writing needs `with run.locked():`."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.lock_inode: int | None = None

    @classmethod
    def of(cls, config: dict) -> "Run":
        """The run of this resolved config (plain dict), in the config's `runs` folder."""
        return cls(Path(config["runs"]) / run_name(config))

    # Reading

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def id(self) -> str:
        return self.name.rsplit("-", 1)[-1]

    def status(self) -> dict:
        """status.json, or {} if it does not exist or cannot be read."""
        try:
            found = json.loads((self.folder / "status.json").read_bytes())
        except (OSError, ValueError):
            return {}
        fits = isinstance(found, dict) and all(isinstance(found.get(key, kind()), kind) for key, kind in KINDS.items())
        return found if fits and "state" in found else {}

    def rows(self) -> list[dict]:
        """The rows of metrics.csv with the types of runs/table.py; an empty cell is None.

        A last line without a line break was cut off when the run was killed and is left out.
        """
        text = self._metrics()
        lines = text[: text.rfind("\n") + 1].splitlines()
        return table.parse(lines, self.folder / "metrics.csv")

    def ended(self) -> bool:
        """Whether the run is finished or diverged and its records are those that were written then."""
        status = self.status()
        complete = status.get("state") in ENDED and self._metrics().count("\n") - 1 == status.get("epoch")
        return complete and not self.damaged()

    def damaged(self) -> list[str]:
        """The records whose content is not what was written; none for runs older than the digests."""
        status = self.status()
        if not status:
            return ["status.json"] if (self.folder / "status.json").exists() else []
        if "digests" not in status:
            return ["status.json"] if status.get("state") in ENDED and "data" in status else []
        return [name for name, digest in self._digests(status).items() if digest != status["digests"].get(name)]

    def _digests(self, status: dict) -> dict[str, str]:
        """SHA-256 of status.json without the digests; for an ended run, of its other records, too."""
        about = json.dumps({key: value for key, value in status.items() if key != "digests"}, sort_keys=True)
        found = {"status.json": hashlib.sha256(about.encode()).hexdigest()}
        for name in ("config.yaml", "metrics.csv") if status.get("state") in ENDED else ():
            path = self.folder / name
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
        return found

    def busy(self) -> bool:
        """Whether a process holds the lock now."""
        if lease.needed(self.folder):
            return bool(lease.Lease(self.folder).held())
        try:
            with self.locked() if (self.folder / "lock").exists() else nullcontext():
                return False
        except RunBusy:
            return True
        except OSError:  # a folder that cannot be written
            return False

    # Writing

    def locked(self) -> FileLock | lease.Lease:
        """The lock of the one process that may write. If that dies, the kernel frees it, or runs/lease.py applies."""
        make_folder(self.folder)
        try:
            if lease.needed(self.folder):
                return lease.Lease(self.folder).acquire()
            lock = FileLock(self.folder / "lock", blocking=False)
            lock.acquire()
        except (Timeout, lease.Taken) as error:
            by = error if isinstance(error, lease.Taken) else "another process"
            raise RunBusy(f"{self.folder} is being trained by {by}; it is left alone") from None
        self.lock_inode = (self.folder / "lock").stat().st_ino
        return lock

    def leave_nothing(self) -> None:
        """Remove the folder again if nothing was written into it; the caller holds the lock."""
        if self._ours() and [path.name for path in self.folder.iterdir()] == ["lock"]:
            (self.folder / "lock").unlink()
            self.folder.rmdir()

    def check_ours(self) -> None:
        """Raises RunError if the locked folder was removed or replaced."""
        if not self._ours():
            raise RunError(f"{self.folder} was removed or replaced during training; rerun the same command")

    def _ours(self) -> bool:
        try:
            return self.lock_inode in (None, (self.folder / "lock").stat().st_ino)
        except FileNotFoundError:
            return self.lock_inode is None

    def begin(self, config: dict, environment: dict, data: str) -> None:
        """Write the config, and note a start, or a change of environment since the last start.

        data: the fingerprint of its data. Raises RunError if the run was begun on other data.
        """
        damaged = self.damaged()
        before = {} if "status.json" in damaged else self.status()
        if before.get("data") not in (None, data):
            raise RunError(
                f"{self.folder} was begun on other data (fingerprint {before['data']}, now {data}); restore that data "
                f"to resume it, or move the folder away to train from the start"
            )
        if damaged:
            if self._metrics() and not list(self.folder.glob("checkpoint*.pt")):
                raise RunError(
                    f"{self.folder / damaged[0]} is damaged and there is no checkpoint to restore it from; move the "
                    f"folder away to train the run from the start"
                )
            self.log(f"{' and '.join(damaged)} damaged; restored from the checkpoint")
            if "config.yaml" in damaged:
                (self.folder / "config.yaml").unlink(missing_ok=True)
        for leftover in self.folder.glob(".*.tmp"):
            leftover.unlink()
        if not (self.folder / "config.yaml").exists():
            write_atomically(self.folder / "config.yaml", _yaml(config).encode())
        changed = {k: v for k, v in environment.items() if before.get("environment", {}).get(k, v) != v}
        if changed:
            self.log(f"resumed at epoch {before.get('epoch')} in another environment: {changed}")
        self.changes = before.get("environment_changes", []) + (
            [{"epoch": before.get("epoch"), **changed}] if changed else []
        )
        self.started = before.get("started") or now()
        self.environment, self.data = environment, data

    def write_status(self, state: str, epoch: int, epochs: int, seconds: float, reason: str | None = None) -> None:
        """Write status.json. epoch: complete epochs; epochs: as asked for; seconds: of training so far."""
        self.check_ours()
        status = {
            "state": state,
            "reason": reason,
            "epoch": epoch,
            "epochs": epochs,
            "seconds": round(seconds, 3),
            "started": self.started,
            "updated": now(),
            "data": self.data,
            "environment": self.environment,
            "environment_changes": self.changes,
        }
        self._write_status(status)

    def fail(self, reason: str) -> None:
        """Record a crash in status.json, keeping what it says about the progress so far."""
        self.check_ours()
        self._write_status(self.status() | {"state": "failed", "reason": reason, "updated": now()})

    def _write_status(self, status: dict) -> None:
        status["digests"] = self._digests(status)
        write_atomically(self.folder / "status.json", (json.dumps(status, indent=1) + "\n").encode())

    def write_rows(self, rows: list[dict]) -> None:
        """Make metrics.csv contain exactly these rows; writes it only if it does not."""
        self.check_ours()
        content = _lines(rows, header=True)
        if not rows:
            (self.folder / "metrics.csv").unlink(missing_ok=True)
        elif content != self._metrics():
            write_atomically(self.folder / "metrics.csv", content.encode())

    def append(self, row: dict) -> None:
        self.check_ours()
        path = self.folder / "metrics.csv"
        content = _lines([row], header=not path.exists())
        with open(path, "a") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def log(self, message: str) -> None:
        with open(self.folder / "log.txt", "a") as file:
            file.write(f"{now()} {message}\n")

    def _metrics(self) -> str:
        try:
            return (self.folder / "metrics.csv").read_text(errors="replace")  # the digest shows damage
        except FileNotFoundError:
            return ""


def _lines(rows: list[dict], header: bool) -> str:
    """The rows as CSV; numbers read back to the same bits, and no cell needs quotes."""
    cells = [list(rows[0])] if rows and header else []
    cells += [["" if value is None else repr(value) for value in row.values()] for row in rows]
    return "".join(",".join(line) + "\n" for line in cells)


def _yaml(config: dict) -> str:
    try:
        import yaml
    except ImportError:  # JSON is YAML too
        return json.dumps(config, indent=1) + "\n"
    return yaml.safe_dump(config, sort_keys=False)


def now() -> str:
    """The time in UTC as status.json has it; such strings sort by time."""
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
