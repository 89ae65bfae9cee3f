"""Every command of README and docs is executed by a test, or listed in commands.yaml with the reason."""

import re
import shlex
import subprocess
from importlib.util import find_spec

import pytest
import yaml

from runs import cli

from .helpers import ROOT, composed

NAMES = ("README.md", "CONTRIBUTING.md", "optimizers/README.md")  # CONTRIBUTING's sh blocks run in test_recipes.py
DOCS = [*(ROOT / name for name in NAMES), *sorted((ROOT / "docs").glob("*.md"))]
PROGRAM = r"(?:make|python|torchrun|pip|wandb|git clone|apt)\b"
LISTED = yaml.safe_load((ROOT / "tests/commands.yaml").read_text())
MADE_UP = ("also=[lion]",)  # of a file that the reader writes


def commands(text: str) -> list[str]:
    """The lines of code blocks without a language, and what stands between backticks, if a program begins it."""
    *parts, last = re.split(r"^```(\w*)\n(.*?)^```$\n?", text, flags=re.DOTALL | re.MULTILINE)
    prose, languages, blocks = [*parts[::3], last], parts[1::3], parts[2::3]
    lines = [line for language, block in zip(languages, blocks, strict=True) if not language
             for line in block.splitlines()]  # fmt: skip
    found = [" ".join(re.sub(r"\s#.*", "", line).split())
             for line in [*lines, *re.findall(r"`([^`]+)`", "\n".join(prose))]]  # fmt: skip
    return [line for line in found if re.match(rf"{PROGRAM} \S", line)]


FOUND = list(dict.fromkeys(one for path in DOCS for one in commands(path.read_text())))


def test_each_command_is_executed_or_listed_with_a_reason_and_nothing_else_is():
    listed = [one for some in LISTED.values() for one in some]
    assert len(listed) == len(set(listed))
    assert set(FOUND) - set(listed) == set(), "execute it in a test or list it in tests/commands.yaml"
    assert set(listed) - set(FOUND) == set(), "listed, but no document has it"


def test_a_command_is_found_in_a_block_and_in_prose_without_its_comment():
    block = "\n```\npython a.py b=1   # why\n| no\n```\n\n```sh\npython c.py\n```\n"
    text = f"Type `make x`.\n{block}and `pip install\n-r x`.\n"
    assert commands(text) == ["python a.py b=1", "make x", "pip install -r x"]


@pytest.mark.parametrize("command", [one for one in FOUND if re.match(r"python (train|sweep)\.py", one)])
def test_the_settings_of_a_command_exist(command):
    given = [one for one in shlex.split(command)[2:] if not one.startswith("-")]
    first = [re.sub(r"^([\w.]+=[^\[,]+),.*", r"\1", one) for one in given]  # of several values for -m
    cli.typed(composed(*first))


def test_the_targets_of_make_exist():
    for command in FOUND:
        if command.startswith("make ") and not any(part in command for part in MADE_UP):
            done = subprocess.run([*shlex.split(command), "-n"], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, f"{command}: {done.stderr}"


def test_the_modules_of_commands_exist():
    for command in FOUND:
        if module := re.match(r"python -m ([\w.]+)", command):
            assert find_spec(module[1]), command
