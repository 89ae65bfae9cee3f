"""A lock on a folder for file systems without flock, or where other machines do not see it (NFS, Lustre).

Among the files `lease-N.json` the one with the highest N is valid. It names the holder: host, process, job. The holder
touches it every HEARTBEAT seconds, and at the end writes that it is over. A process that wants the folder creates
lease-(N+1), which only one process can. It may do so if lease N is over, if its process ran on this host and is dead,
or if it was not touched for LEASE seconds by the file system's clock. A holder that loses its lease ends at once,
because it must not write any more.
"""

import fcntl
import functools
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

HEARTBEAT, LEASE = 15.0, 120.0
PROC = Path("/proc")
NETWORKED = {"nfs", "nfs4", "lustre", "beegfs", "gpfs", "ceph", "cifs", "smb3", "9p", "fuse.sshfs", "afs", "glusterfs"}


class Taken(Exception):
    """Another process holds the folder; the message says which."""


class Lease:
    """Held from `acquire` to `release`, or for a `with`."""

    def __init__(self, folder: Path):
        self.folder, self.path = folder, None
        self.over = threading.Event()

    def held(self) -> str:
        """Who holds the folder; "" if nobody."""
        _, path = self._last()
        return "" if path is None or self._free(path) else _read(path).get("owner", "somebody")

    def acquire(self) -> "Lease":
        """Raises Taken."""
        number, path = self._last()
        if path and not self._free(path):
            raise Taken(_read(path).get("owner", "somebody"))
        mine = self.folder / f"lease-{number + 1}.json"
        try:
            handle = os.open(mine, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            raise Taken("somebody who was faster") from None
        with os.fdopen(handle, "w") as file:
            file.write(json.dumps(_me()))
        for older in self.folder.glob("lease-*.json"):
            if _number(older) <= number:
                older.unlink(missing_ok=True)
        self.path = mine
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def release(self) -> None:
        self.over.set()
        if self.path and self.path.exists():
            self.path.write_text(json.dumps(_me() | {"over": True}))

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_) -> None:
        self.release()

    def _last(self) -> tuple[int, Path | None]:
        return max(((_number(path), path) for path in self.folder.glob("lease-*.json")), default=(0, None))

    def _beat(self) -> None:
        assert self.path
        successor = self.folder / f"lease-{_number(self.path) + 1}.json"
        while not self.over.wait(HEARTBEAT):
            try:
                if successor.exists() or not self.path.exists():
                    self.lost()
                os.utime(self.path)
            except OSError:
                continue  # the file system is unreachable; if that lasts, another process takes the lease

    def lost(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _free(self, path: Path) -> bool:
        holder = _read(path)
        if holder.get("over"):
            return True
        if holder.get("host") == socket.gethostname() and not _alive(holder):
            return True
        probe = self.folder / f".lease-{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
        try:
            probe.touch()
            return probe.stat().st_mtime - path.stat().st_mtime > LEASE
        except FileNotFoundError:
            return False  # another process has just taken it
        finally:
            probe.unlink(missing_ok=True)


def needed(folder: Path) -> bool:
    """Whether a run's folder is on a file system that several machines may share, or that has no flock."""
    return _shared(next(parent for parent in folder.absolute().parents if parent.is_dir()))


@functools.cache
def _shared(folder: Path) -> bool:
    if not os.access(folder, os.W_OK):
        return False  # nothing can be written, so nothing is locked
    with tempfile.TemporaryFile(dir=folder) as probe:
        try:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return False
    here = str(folder.resolve())
    under = [(len(at), kind) for at, kind in mounts if here == at or here.startswith(at.rstrip("/") + "/")]
    return max(under, default=(0, ""))[1] in NETWORKED


def _me() -> dict:
    job = os.environ.get("SLURM_JOB_ID")
    owner = f"process {os.getpid()} on {socket.gethostname()}" + (f", job {job}" if job else "")
    return {"owner": owner, "host": socket.gethostname(), "pid": os.getpid(), "begun": _begun(os.getpid())}


def _alive(holder: dict) -> bool:
    return _begun(holder.get("pid", 0)) == holder.get("begun") != ""


def _begun(pid: int) -> str:
    """When a process began, which distinguishes it from a later one with the same pid; "" if it is not running."""
    if not (PROC / "self").exists():  # a Mac
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _read(path: Path) -> dict:
    """The content of a lease; {} while it is being written."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _number(path: Path) -> int:
    digits = path.stem.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0
