"""make on a machine with nothing but POSIX's commands and Python, which is what a Mac has."""

import os
import shutil
import subprocess
import sys

import pytest

from .helpers import ROOT

COMMANDS = ["make", "sh", "awk", "cat", "cksum", "find", "rm", "echo"]
PIP = """#!/bin/sh
echo "$@" >> pip.log
"""


@pytest.fixture
def make(tmp_path):
    """A checkout whose environment records what is installed; runs make there and returns the outcome."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in COMMANDS:
        (commands / name).symlink_to(shutil.which(name))
    (commands / "python3").symlink_to(sys.executable)
    here = tmp_path / "checkout"
    (here / ".venv" / "bin").mkdir(parents=True)
    (here / ".venv" / "bin" / "python").write_text(PIP)
    (here / ".venv" / "bin" / "python").chmod(0o755)
    for name in ("Makefile", "requirements.txt", "constraints.txt"):
        shutil.copy(ROOT / name, here)

    def make(*targets):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        return subprocess.run(["make", *targets], cwd=here, env=environment | {"PATH": str(commands)},
                              capture_output=True, text=True, timeout=100)  # fmt: skip

    make.folder = here
    return make


def installed(make) -> int:
    log = make.folder / "pip.log"
    return log.read_text().count("install") if log.exists() else 0


def test_what_is_required_is_installed_once_and_again_when_its_content_changes(make):
    for _ in range(2):
        done = make("setup")
        assert done.returncode == 0 and done.stderr == "", done.stderr
        assert installed(make) == 1
    os.utime(make.folder / "requirements.txt")  # as git does when it switches branches
    assert make("setup").returncode == 0 and installed(make) == 1
    with open(make.folder / "requirements.txt", "a") as file:
        file.write("another\n")
    assert make("setup").returncode == 0 and installed(make) == 2


def test_a_linked_environment_is_never_emptied(make, tmp_path):
    (make.folder / ".venv").rename(tmp_path / "shared")
    (make.folder / ".venv").symlink_to(tmp_path / "shared")
    (tmp_path / "shared" / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")  # no pip in it
    done = make("setup")
    assert done.returncode == 2 and "links to an environment without pip" in done.stderr
    assert (tmp_path / "shared" / "bin" / "python").exists()


@pytest.mark.parametrize(
    ("typed", "said"),
    [("fgi2", "did you mean make fig2?"), ("smokee", "did you mean make smoke?"), ("zzz", "make lists them")],
)
def test_a_target_that_is_none_suggests_the_nearest(make, typed, said):
    done = make(typed)
    assert done.returncode == 2 and f"there is no target '{typed}'" in done.stderr and said in done.stderr


def test_make_alone_lists_the_targets(make):
    done = make()
    assert "make fig2 " in done.stdout and "make dashboard" in done.stdout and done.returncode == 0


def ran(make, *typed) -> list[str]:
    """What `make` ran after the installation: a line each, without the environment's path and what every sweep says."""
    make("setup")
    (make.folder / "pip.log").unlink()
    make(*typed)
    return (make.folder / "pip.log").read_text().replace("launcher=local ", "").splitlines()


def test_at_the_laptop_tier_the_paper_s_methods_are_drawn_before_the_controls_are_trained(make):
    assert ran(make, "fig1ab") == [
        "sweep.py tier=laptop experiment=fig1ab only=[sgdm,powersgd,powersgdm,adagrad,rmsprop,adam]",
        "-m figures fig1ab --tier laptop",
        "sweep.py tier=laptop experiment=fig1ab",
        "-m figures fig1ab --tier laptop",
        "sweep.py tier=laptop experiment=fig1ab_early",
        "-m figures fig1ab_early --tier laptop",
    ]


def test_a_choice_of_entries_and_other_tiers_take_one_sweep(make):
    assert ran(make, "fig1a", "ARGS=only=[adam]") == [
        "sweep.py tier=laptop only=[adam] experiment=fig1ab",
        "-m figures fig1a --tier laptop",
        "sweep.py tier=laptop only=[adam] experiment=fig1ab_early",
        "-m figures fig1ab_early --tier laptop",
    ]
    assert ran(make, "fig1a", "TIER=smoke") == [
        "sweep.py tier=smoke experiment=fig1ab",
        "-m figures fig1a --tier smoke",
    ]


@pytest.mark.parametrize(("status", "drawn"), [(1, True), (2, False)])
def test_a_sweep_that_fails_is_the_last_and_is_drawn_unless_it_was_typed_wrongly(make, status, drawn):
    fails = f"case $1 in sweep.py) exit {status};; esac\n"
    (make.folder / ".venv" / "bin" / "python").write_text(PIP + fails)
    lines = ran(make, "fig1ab")
    assert lines[1:] == (["-m figures fig1ab --tier laptop"] if drawn else [])
    done = make("fig1ab")
    assert done.returncode == 2 and f"Error {status}" in done.stderr


def test_the_report_plans_no_tier_that_cannot_be_planned(make):
    assert "for tier in paper laptop; do" in make("-n", "report").stdout  # not short, whose runs are all there
    assert "short" not in make("-n", "report", "TIER=short").stdout.partition("-m report")[0]
