"""Users' code: a class or function by its path, and what of it goes into the identity of a run."""

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from .schema import ConfigError

ROOT = Path(__file__).resolve().parent.parent
OURS = ("torch", "optimizers", "models", "data")  # covered by the format version and the recorded environment


def code_of(path: str) -> str | None:
    """What a path to a user's class or function (module.Name or file.py:Name) contains, as far as a name can say it.

    Of a file: the digest of it and of what it imports from beside itself. Of an installed package: name and version.
    None for torch and this project. Raises ConfigError if the file cannot be read.
    """
    file, _, _ = path.rpartition(":")
    if file:
        sources: dict[str, str] = {}
        _read(ROOT / file, (ROOT / file).parent, sources)
        return hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()[:12]
    package = path.split(".")[0]
    if package in OURS:
        return None
    names = importlib.metadata.packages_distributions().get(package, [])
    return "==".join([names[0], importlib.metadata.version(names[0])]) if names else None


def load(path: str, code: str | None) -> Any:
    """The class or function that a path names: package.module.Name, or file.py:Name below the project unless absolute.

    code: what code_of said when the run was named; the modules beside a file are read anew, so that a long process
    cannot run an older text than its name says. Raises ConfigError.
    """
    file, _, name = path.rpartition(":")
    module, _, last = path.rpartition(".")
    try:
        if file:
            made = getattr(_executed(ROOT / file), name)
        elif module:
            made = getattr(importlib.import_module(module), last)
        else:
            raise ConfigError(f"{path}: name package.module.Name or file.py:Name")
    except ConfigError:
        raise
    except Exception as error:  # users' code may raise anything
        raise ConfigError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from None
    if code_of(path) != code:
        raise ConfigError(f"{path} changed while the program ran; rerun the same command")
    return made


def _executed(file: Path) -> Any:
    folder = str(file.parent)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(folder + "/") and file.parent != ROOT:
            del sys.modules[name]
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    found = importlib.util.module_from_spec(spec)
    sys.path.append(folder)  # last: a file there cannot hide a package
    try:
        spec.loader.exec_module(found)
    finally:
        sys.path.remove(folder)
    return found


def _read(file: Path, folder: Path, sources: dict[str, str]) -> None:
    """Add a file's source and those of the modules of its folder that it imports, by their paths in the folder."""
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
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            modules = [base, *(f"{base}.{alias.name}".strip(".") for alias in node.names)]
        for module in modules:
            at = folder.joinpath(*module.split("."))
            for found in (at.with_suffix(".py"), at / "__init__.py"):
                if module and found.is_file():
                    _read(found, folder, sources)
