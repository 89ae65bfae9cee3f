"""A cache in .cache for results that take seconds to compute and depend only on the suite's own files."""

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
# Composed configs depend on the first three, checked classes on the others. What is done to a config later is not kept.
SOURCES = ("configs/**/*.yaml", "runs/schema.py", "runs/cli.py", "runs/code.py", "training/build.py")
PACKAGES = ("hydra-core", "omegaconf", "torch")


def kept(key: list, compute: Callable[[], Any]) -> Any:
    """compute(), or its earlier result for this key if the sources have not changed since; as JSON."""
    path = FOLDER / state() / f"{digest(json.dumps(key))}.json"
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text())
    text = json.dumps(compute())
    with contextlib.suppress(OSError):  # a read-only checkout works without the cache
        if not path.parent.exists():
            shutil.rmtree(FOLDER, ignore_errors=True)  # results of earlier sources
        write_atomically(path, text.encode())
    return json.loads(text)


@functools.cache
def state() -> str:
    """12 hex digits for everything that the kept results depend on."""
    texts = [path.read_text() for pattern in SOURCES for path in sorted(ROOT.glob(pattern))]
    # A composed config has absolute paths, so a copied checkout must not read the original's.
    return digest(json.dumps([str(ROOT), *texts, *map(importlib.metadata.version, PACKAGES)]))
