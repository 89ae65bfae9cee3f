"""Atomic writes: every record of the suite is either complete or absent. JSON files carry a digest that shows damage.

The formats of tables and pictures have no place for a digest; theirs are in a list beside them (runs/sums.py).
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .schema import ConfigError

DIGEST = "sha256"  # the key of a JSON file's own digest


class DamagedFile(ConfigError):
    """A file whose content is not what was written; the message is one line that names it and says what to do."""


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write all of `content` or nothing: to a temporary file, fsynced, then renamed to `path`. Makes the folder."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)  # less the umask
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def make_folder(folder: Path) -> None:
    """Make a folder and its parents so that they survive a power cut."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> Path:
    """As write_atomically; returns the path."""
    write_atomically(path, text.encode())
    return path


def write_json(path: Path, content: dict[str, Any]) -> None:
    """As write_atomically, with the content's digest added."""
    whole = content | {DIGEST: _digest(content)}
    write_atomically(path, (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode())


def read_json(path: Path, advice: str, **kinds: type) -> dict[str, Any]:
    """Read a file of write_json, or one written by hand without a digest.

    kinds: the keys that it must have, with their types. advice: what to do about a damaged one. Raises
    FileNotFoundError, DamagedFile.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise DamagedFile(f"{path} is damaged ({' '.join(str(error).split())}); {advice}") from None
    if not isinstance(content, dict):
        raise DamagedFile(f"{path} is damaged (it is not a JSON object); {advice}")
    written = content.pop(DIGEST, None)
    misnamed = written is None and any(re.fullmatch("[0-9a-f]{64}", str(value)) for value in content.values())
    if misnamed or (written is not None and written != _digest(content)):
        raise DamagedFile(f"{path} is damaged (its content is not what was written); {advice}")
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise DamagedFile(f"{path} is damaged ('{key}' is missing or of the wrong type); {advice}")
    return content


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time read and rewrite the files in a folder. Creates no lock file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
