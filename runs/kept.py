"""What takes seconds to compute and follows from the suite's own files alone, kept in .cache between commands."""

import contextlib
import functools
import importlib.metadata
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .files import write_atomically
from .identity import digest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".cache"
SOURCES = ("configs/**/*.yaml", "runs/*.py", "models/*.py", "training/build.py")
PACKAGES = ("hydra-core", "omegaconf", "torch")


def kept(key: list, compute: Callable[[], Any]) -> Any:
    """compute(), or what it said before of this key while the sources were the same; both as JSON."""
    path = FOLDER / state() / f"{digest(json.dumps(key))}.json"
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text())
    text = json.dumps(compute())
    with contextlib.suppress(OSError):  # a checkout that cannot be written does without
        if not path.parent.exists():
            shutil.rmtree(FOLDER, ignore_errors=True)  # of earlier sources
        write_atomically(path, text.encode())
    return json.loads(text)


@functools.cache
def state() -> str:
    """12 digits of all that the kept things follow from."""
    texts = [path.read_text() for pattern in SOURCES for path in sorted(ROOT.glob(pattern))]
    return digest(json.dumps([*texts, *map(importlib.metadata.version, PACKAGES)]))
