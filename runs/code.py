"""Users' code: a class or function by its path, and what of it enters a run's identity."""

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .schema import ConfigError

ROOT = Path(__file__).resolve().parent.parent
CHANGED = "{} changed while the program ran; rerun the same command"
CONTROLS = "optimizers.controls."
# Not hashed: FORMAT covers our own optimizers, and the recorded environment covers torch.
COVERED = ("torch.", CONTROLS, "optimizers.powersgd.")
_imported: dict[str, str | None] = {}  # users' modules, and their content when this process imported them


def code_of(path: str) -> str | None:
    """What identifies the content of a user's class or function, given its path (module.Name or file.py:Name).

    For an installed package: its name and version. For a file or any other module, also one placed beside ours: the
    digest of it and of the modules that it imports from its own folder. None for torch and our own optimizers. Raises
    ConfigError if a file cannot be read.
    """
    file, _, _ = path.rpartition(":")
    if file:
        return _digest([ROOT / file], (ROOT / file).parent)
    package, *parts = path.split(".")[:-1] or [""]
    if path.startswith(COVERED) or package in sys.stdlib_module_names:
        return None
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return None  # `load` will say that it cannot be loaded
    top = Path([*(spec.submodule_search_locations or []), spec.origin or ""][0])
    if {"site-packages", "dist-packages"} & set(top.parts):
        names = importlib.metadata.packages_distributions().get(package, [])
        return "==".join([names[0], importlib.metadata.version(names[0])]) if names else None
    files = list(_files(top.parent, [package, *parts]))
    return _digest(files[-1:] if top.parent == ROOT else files, top.parent)  # `models` itself imports all of ours


def load(path: str, code: str | None) -> Any:
    """The class or function at a path: package.module.Name, or file.py:Name, relative to the project.

    code: what code_of returned when the run was named. The modules beside a file are imported again, so that a long
    process cannot run older code than the run's name says. Raises ConfigError.
    """
    file, _, name = path.rpartition(":")
    module, _, last = path.rpartition(".")
    try:
        if file:
            made = getattr(_executed(ROOT / file), name)
        elif module:
            found = importlib.import_module(module)
            if _imported.setdefault(module, code) != code:
                raise ConfigError(CHANGED.format(path))
            made = getattr(found, last)
        else:
            raise ConfigError(f"{path}: name package.module.Name or file.py:Name")
    except ConfigError:
        raise
    except Exception as error:  # users' code may raise anything
        raise ConfigError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from None
    if code_of(path) != code:
        raise ConfigError(CHANGED.format(path))
    return made


def _executed(file: Path) -> Any:
    folder = str(file.parent)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(folder + "/") and file.parent != ROOT:
            del sys.modules[name]
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    found = importlib.util.module_from_spec(spec)
    sys.path.append(folder)  # last: a file there cannot hide a package
    try:
        spec.loader.exec_module(found)
    finally:
        sys.path.remove(folder)
    return found


def _digest(files: Iterable[Path], folder: Path) -> str:
    sources: dict[str, str] = {}
    for file in files:
        _read(file, folder, sources)
    return hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()[:12]


def _read(file: Path, folder: Path, sources: dict[str, str]) -> None:
    """Add the source of a file and of the modules that it imports from its folder, by their paths in the folder."""
    name = str(file.relative_to(folder))
    if name in sources:
        return
    try:
        text = file.read_text()
        tree = ast.parse(text)
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be loaded: {error}") from None
    sources[name] = text
    for node in ast.walk(tree):
        start, modules = folder, []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = file.parents[node.level - 1] if node.level else folder
            modules = [f"{node.module or ''}.{alias.name}".strip(".") for alias in node.names]
        for module in modules:
            for found in _files(start, module.split(".")):
                if found.is_relative_to(folder):
                    _read(found, folder, sources)


def _files(folder: Path, parts: list[str]) -> Iterator[Path]:
    """The files that importing a dotted name runs: its packages' __init__.py and its own, if they are in the folder."""
    for end in range(1, len(parts) + 1):
        at = folder.joinpath(*parts[:end])
        yield from (file for file in (at.with_suffix(".py"), at / "__init__.py") if file.is_file())
