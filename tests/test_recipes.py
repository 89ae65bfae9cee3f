"""The recipes of CONTRIBUTING.md, followed word for word: its files are written, its commands are run."""

import re
import shutil
import subprocess
import sys

import pytest

from .helpers import ROOT, clean_environment

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
FILE = re.compile(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def recipes() -> dict[str, str]:
    """The text of each `## A ...` section."""
    parts = re.split(r"^## (An? [\w ]+)$", TEXT, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The tracked files without the results, in which all recipes are followed."""
    folder = tmp_path_factory.mktemp("recipes") / "suite"
    for name in subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split():
        if not name.startswith(("results/", "tests/")) and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "results" / "paper" / "archive", folder / "results" / "paper" / "archive")
    shutil.copy(ROOT / "results" / "paper_reference.yaml", folder / "results")
    return folder


@pytest.mark.timeout(120)  # starts programs
@pytest.mark.parametrize("recipe", recipes())
def test_a_recipe_works_as_it_stands(recipe, checkout):
    text = recipes()[recipe]
    files, commands = FILE.findall(text), [line for block in COMMAND.findall(text) for line in block.splitlines()]
    assert files and commands
    for name, content in files:
        target = checkout / name
        before = target.read_text() if target.exists() else ""
        target.write_text(before + content)  # a claim is appended to an existing file
    environment = clean_environment(checkout) | {"PYTHONPATH": str(checkout), "WANDB_MODE": "disabled"}
    for line in commands:
        program, *arguments = line.split()
        assert program == "python", line
        done = subprocess.run(
            [sys.executable, *arguments], cwd=checkout, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
