"""Faults of the disk: every call that changes something fails in turn, the power goes, a bit flips, a file is cut."""

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from . import harness
from .harness import COUNT, MODES, TRACE, Table, arm, child
from .scenarios import Scenario


def calls_of(scenario: Scenario, folder: Path) -> tuple[int, object]:
    """How many calls the scenario makes undisturbed, and what comes out."""
    scenario.prepare(folder)
    number = folder.parent / "calls"

    def act() -> None:
        arm(folder, COUNT)
        try:
            scenario.act(folder)
        finally:
            number.write_text(str(harness.ctypes.CDLL(None).fault_calls()))

    done = child(act)
    assert done.status == 0, (scenario.name, done)
    return int(number.read_text()), scenario.came_out(folder)


def failing_calls(scenario: Scenario, scratch: Path, table: Table, share: float, choose: random.Random) -> None:
    """Every mode at every call, or at a random share of them; then the same command again."""
    count, expected = calls_of(scenario, scratch / "undisturbed")
    for mode, (how, error) in MODES.items():
        for at in range(1, count + 1):
            if choose.random() >= share:
                continue
            folder = scratch / "case"
            scenario.prepare(folder)

            def act(folder=folder, how=how, at=at, error=error) -> None:
                arm(folder, how, at, error)
                scenario.act(folder)

            done = child(act)
            about = f"{scenario.name}, call {at} of {count}: {done}"
            if done.traceback or (done.status > 0 and not done.one_line) or done.status == -99:
                table.add(mode, "traceback", about)
            else:
                table.add(mode, *again(scenario, folder, expected, about))
            shutil.rmtree(folder)


def again(scenario: Scenario, folder: Path, expected: object, about: str) -> tuple[str, str]:
    """The outcome of the same command once more, undisturbed."""
    done = child(lambda: scenario.act(folder))
    if done.traceback:
        return "traceback", f"{about}; again: {done}"
    if done.status:
        return ("refused" if done.one_line else "lost"), f"{about}; again: {done}"
    try:
        found = scenario.came_out(folder)
    except Exception as error:
        found = repr(error)
    if isinstance(found, dict) and isinstance(expected, dict):
        found, expected = dict(found.items() - expected.items()), dict(expected.items() - found.items())
    return ("same" if found == expected else "lost"), f"{about}; again: {found} instead of {expected}"


def power_cuts(scenario: Scenario, scratch: Path, table: Table, variants: int, choose: random.Random) -> None:
    """As SQLite's tests do it: of a traced run, every state that a disk may be in when the power goes.

    What was fsynced is there. Of the rest each write, and each change of a folder, may be lost on its own: also data
    that a rename which was kept has renamed.
    """
    folder, log = scratch / "traced", scratch / "trace"
    scenario.prepare(folder)
    start = scratch / "start"
    shutil.copytree(folder, start) if folder.exists() else start.mkdir()

    def act() -> None:
        arm(folder, TRACE, log=str(log))
        scenario.act(folder)

    done = child(act)
    assert done.status == 0, done
    expected, steps = scenario.came_out(folder), list(trace(log))
    shutil.rmtree(folder)
    for cut in range(1, len(steps) + 1):
        for variant in range(variants):
            keep = (lambda: False, lambda: True, lambda: choose.random() < 0.5)[min(variant, 2)]
            after_power_cut(steps[:cut], start, folder, keep, lose_data=variant == 1)
            about = f"{scenario.name}, after call {cut}, variant {variant}"
            table.add("power cut", *again(scenario, folder, expected, about))
            shutil.rmtree(folder, ignore_errors=True)


def trace(log: Path) -> Iterator[tuple[str, str, str, bytes]]:
    content = log.read_bytes()
    while content:
        line, _, content = content.partition(b"\n")
        what, one, other, size = line.decode().split("\t")
        yield what, one, other, content[: int(size)]
        content = content[int(size) :]


def after_power_cut(steps, start: Path, folder: Path, keep: Callable[[], bool], lose_data: bool) -> None:
    """Leave `folder` as the disk may be after these steps.

    A file's content is on the disk once it was fsynced, its name once its folder was. Folders of a file system with a
    journal keep the order of their changes: what is kept of a folder is a prefix.
    """
    shutil.copytree(start, folder)
    names: dict[str, list] = {}  # by path: [content, durable content], one object for a file whatever its name
    for path in (path for path in folder.rglob("*") if path.is_file()):
        names[str(path)] = [path.read_bytes(), path.read_bytes()]
    entries: list[tuple[str, str, str, list | None]] = []  # changes of folders that are not durable yet

    def settle(parent: str, everything: bool) -> None:
        nonlocal entries
        going = True
        for entry in [entry for entry in entries if str(Path(entry[1]).parent) == parent]:
            going = everything or (going and keep())
            if going:
                apply(entry)
        entries = [entry for entry in entries if str(Path(entry[1]).parent) != parent]

    durable: dict[str, list] = dict(names)  # the names that are on the disk

    def apply(entry) -> None:
        what, path, source, file = entry
        if what == "name":
            durable[path] = file
            if source:
                durable.pop(source, None)
        elif what == "unlink":
            durable.pop(path, None)
        elif what == "mkdir":
            Path(path).mkdir(parents=True, exist_ok=True)

    for what, one, other, data in steps:
        if what == "open" and (one not in names or other == "truncate"):
            if one not in names:
                names[one] = [b"", b""]
                entries.append(("name", one, "", names[one]))
            else:
                names[one][0] = b""
        elif what == "write" and one in names:
            names[one][0] += data
        elif what == "fsync" and one in names:
            names[one][1] = names[one][0]
        elif what == "fsync":
            settle(one, True)
        elif what == "rename" and one in names:
            names[other] = names.pop(one)
            entries.append(("name", other, one, names[other]))
        elif what == "unlink":
            names.pop(one, None)
            entries.append(("unlink", one, "", None))
        elif what == "mkdir":
            entries.append(("mkdir", one, "", None))
    for parent in dict.fromkeys(str(Path(entry[1]).parent) for entry in list(entries)):
        settle(parent, False)
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.unlink()
    for path, (content, synced) in durable.items():
        held = synced if lose_data or not keep() else content
        with suppress(OSError):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_bytes(held)


def damages(content: bytes, flips: int, cuts: int, choose: random.Random) -> Iterator[tuple[str, bytes]]:
    for _ in range(flips):
        place = choose.randrange(len(content))
        flipped = bytes([content[place] ^ (1 << choose.randrange(8))])
        yield f"bit flipped in byte {place}", content[:place] + flipped + content[place + 1 :]
    for _ in range(cuts):
        length = choose.randrange(len(content))
        yield f"cut after {length} bytes", content[:length]
