"""The digests of a folder's tables and pictures, in its SHA256SUMS, so that a reader can check each file.

`sha256sum --check` reads the list, too. After a file was changed on purpose (by hand or by a merge), update it with

    python -m runs.sums [results]
"""

import hashlib
import sys
from pathlib import Path

from .files import DamagedFile, locked, make_folder, write_atomically

NAME = "SHA256SUMS"
SUFFIXES = (".csv", ".svg", ".png")
COMING = "# "  # marks the line of a file that is being written: it may have this content or the previous one


def write(path: Path, content: bytes) -> None:
    """As write_atomically, and list the file. At every moment the list contains the digest of the file's content."""
    make_folder(path.parent)
    line = f"{hashlib.sha256(content).hexdigest()}  {path.name}"
    with locked(path.parent):
        lines = _lines(path.parent) or []
        others = [other for other in lines if _name(other) != path.name]
        _store(path.parent, [*lines, COMING + line])
        write_atomically(path, content)
        _store(path.parent, [*others, line])


def remove(path: Path) -> None:
    """Delete the file and its line."""
    path.unlink(missing_ok=True)
    if (path.parent / NAME).exists():
        with locked(path.parent):
            _store(path.parent, [line for line in _lines(path.parent) or [] if _name(line) != path.name])


def read(path: Path) -> bytes:
    """The file's content, checked if its folder has a list. Raises FileNotFoundError, DamagedFile."""
    content, problem = _look(path)
    if problem:
        with locked(path.parent):  # another process may just have written it
            content, problem = _look(path)
    if problem:
        raise DamagedFile(
            f"{path} {problem} {NAME}; restore it (git checkout {path}) or make it again; if the change is intended: "
            f"python -m runs.sums {path.parent}"
        )
    if content is None:
        raise FileNotFoundError(2, "No such file or directory", str(path))
    return content


def damaged(folder: Path) -> dict[str, str]:
    """The files of a folder that do not agree with its list, and the problem of each."""
    names = {_name(line) for line in _lines(folder) or []} | {path.name for path in files(folder)}
    return {name: problem for name in sorted(names) if (problem := _look(folder / name)[1])}


def renew(folder: Path) -> None:
    """Write the list anew from the files as they are."""
    found = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in files(folder)]
    if found:
        write_atomically(folder / NAME, _text(found))


def files(folder: Path) -> list[Path]:
    """The files that belong in the folder's list."""
    return [path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file()]


def _look(path: Path) -> tuple[bytes | None, str]:
    """The content, or None without a file, and its problem in words to which the list's name is appended."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = None
    lines = _lines(path.parent)
    if lines is None:
        return content, ""
    mine = [line for line in lines if _name(line) == path.name]
    if content is None:
        return None, "is missing, but listed in" if any(not line.startswith(COMING) for line in mine) else ""
    if not mine:
        return content, "is not listed in"
    known = {line.removeprefix(COMING).split()[0] for line in mine}
    return content, "" if hashlib.sha256(content).hexdigest() in known else "is damaged: its digest is not the one in"


def _lines(folder: Path) -> list[str] | None:
    """The lines of the list, or None without a list. Raises DamagedFile."""
    path = folder / NAME
    try:
        lines = path.read_text().removesuffix("\n").split("\n")
    except FileNotFoundError:
        return None
    except ValueError:
        lines = ["?"]
    for number, line in enumerate(lines, 1):
        if not (len(line) > 66 and line.removeprefix(COMING)[64:66] == "  "):
            raise DamagedFile(f"{path}, line {number}, is damaged; write the list anew: python -m runs.sums {folder}")
    return lines


def _name(line: str) -> str:
    return line.removeprefix(COMING)[66:]


def _store(folder: Path, lines: list[str]) -> None:
    write_atomically(folder / NAME, _text(lines))


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in sorted(lines, key=_name)).encode()


if __name__ == "__main__":
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    for place in (root, *root.glob("*/"), *root.glob("*/archive/")):
        if place.name not in ("runs", "reruns") and place.is_dir():
            renew(place)
