"""W&B sees every epoch, asks no questions, and cannot hurt a run."""

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from runs.schema import ConfigError
from training.execute import execute
from training.tracking import chosen_mode

from .helpers import ROOT, clean_environment, finish, make_config, program, run_of, start
from .wandb_stub import KEY, Server

WANDB = Path(sys.executable).parent / "wandb"
QUICK = "from training import tracking; tracking.INIT_SECONDS = tracking.FINISH_SECONDS = 2"


@pytest.fixture(autouse=True)
def no_account(tmp_path, monkeypatch):
    """Nothing of this machine's W&B account is seen."""
    for name in os.environ:
        if name.startswith("WANDB_") or name == "NETRC":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def records(run, kind: str) -> list[dict]:
    """The records of this kind in all of W&B's files of the run, as W&B's own program reads them."""
    found = []
    for file in sorted(run.folder.glob("wandb/*run-*/run-*.wandb")):
        shown = subprocess.run(
            [WANDB, "leet", "inspect", "--json", file],
            env=clean_environment(run.folder),
            capture_output=True,
            text=True,
            timeout=60,
        )
        found += [json.loads(line) for line in shown.stdout.splitlines()]
    return [record[kind] for record in found if record["type"] == kind]


def logged(run) -> list[dict]:
    """The rows of metrics in W&B's files, without what W&B adds to them."""
    return [without_additions(record["item"]) for record in records(run, "history")]


def without_additions(row: dict) -> dict:
    return {key: value for key, value in row.items() if not key.startswith("_")}


def on_disk(run) -> list[dict]:
    """The rows of metrics.csv as they are logged: an empty cell is no entry."""
    return [{key: value for key, value in row.items() if value is not None} for row in run.rows()]


def advance(process, until: str) -> None:
    """Let a program in lockstep go on until it prints this line, where it waits."""
    while (line := process.stdout.readline().strip()) != until:
        assert line, process.communicate()
        process.stdin.write("\n")
        process.stdin.flush()


def log_of(run) -> str:
    path = run.folder / "log.txt"
    return path.read_text() if path.exists() else ""


# Offline


def test_at_a_terminal_without_an_account_every_epoch_is_logged_offline_and_nothing_is_asked(tmp_path):
    changes = {"wandb.mode": "auto", "epochs": 3, "experiment": "fig2", "tier": "smoke"}
    keyboard, terminal = pty.openpty()
    child = subprocess.Popen(
        program(tmp_path, **changes),
        cwd=ROOT,
        env=clean_environment(tmp_path),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    assert child.wait(timeout=60) == 0  # nobody types
    assert b"choice" not in os.read(keyboard, 100_000)
    os.close(keyboard), os.close(terminal)

    config = make_config(tmp_path, **changes)
    run = run_of(config)
    (folder,) = run.folder.glob("wandb/*run-*-*")
    assert folder.name.startswith("offline-run-")
    assert logged(run) == on_disk(run) and [row["epoch"] for row in logged(run)] == [1, 2, 3]
    (record,) = records(run, "run")
    assert (record["run_id"], record["display_name"], record["project"]) == (run.id, run.name, "powersgd")
    assert (record["run_group"], record["job_type"]) == ("fig2", "train")
    assert {"smoke", "fig2", "mnist"} <= set(record["tags"])
    sent = record["config"]["update"]
    assert (sent["seed"], sent["epochs"], sent["model"]["width"]) == (0, 3, 16)
    assert sent["optimizer"] == vars(config.optimizer)
    assert [end["exit_code"] for end in records(run, "exit")] == [0]


@pytest.mark.slow
def test_the_files_of_a_run_that_was_killed_and_stopped_hold_every_epoch(tmp_path):
    changes = {"wandb.mode": "offline", "epochs": 5}
    killed = start(tmp_path, lockstep=True, **changes)
    advance(killed, "epoch 2")  # logged, but neither in the checkpoint nor in metrics.csv
    killed.kill()
    killed.communicate()
    stopped = start(tmp_path, lockstep=True, **changes)
    advance(stopped, "epoch 3")
    stopped.send_signal(signal.SIGTERM)
    stopped.communicate("\n")
    assert stopped.returncode == 128 + signal.SIGTERM
    finish(start(tmp_path, **changes))

    run = run_of(make_config(tmp_path, **changes))
    assert len(list(run.folder.glob("wandb/offline-run-*"))) == 3
    rows = logged(run)
    assert {row["epoch"] for row in rows} == {1, 2, 3, 4, 5}
    for row in on_disk(run):
        assert row in rows
    assert {record["run_id"] for record in records(run, "run")} == {run.id}
    # Steps start again with every process, so curves are drawn over epochs.
    assert {"epoch"} == {metric["step_metric"] for metric in records(run, "metric") if "step_metric" in metric}


# Online, with a server on this machine


def account(server: str) -> dict[str, str]:
    return {"WANDB_BASE_URL": server, "WANDB_API_KEY": KEY}


def test_online_every_epoch_arrives(tmp_path):
    changes = {"wandb.mode": "auto", "epochs": 3, "experiment": "fig2"}
    with Server() as server:
        finish(start(tmp_path, environment=account(server.url), **changes))
    run = run_of(make_config(tmp_path, **changes))
    assert [without_additions(row) for row in server.rows] == on_disk(run) and len(server.rows) == 3
    assert (server.run["name"], server.run["displayName"]) == (run.id, run.name)
    assert (server.run["groupName"], server.run["jobType"]) == ("fig2", "train")
    assert {"fig2", "mnist"} <= set(server.run["tags"])
    assert json.loads(server.run["config"])["epochs"]["value"] == 3
    assert "W&B" not in log_of(run)


def test_a_server_that_dies_in_the_middle_does_not_hurt_the_run(tmp_path):
    changes = {"wandb.mode": "auto", "epochs": 4}
    with Server() as server:
        process = start(tmp_path, lockstep=True, before=QUICK, environment=account(server.url), **changes)
        advance(process, "epoch 1")
    finish(process, seconds=60)
    run = run_of(make_config(tmp_path, **changes))
    assert run.ended() and [row["epoch"] for row in run.rows()] == [1, 2, 3, 4]
    assert logged(run) == on_disk(run)  # there to be uploaded another day


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_an_unreachable_server_costs_seconds_and_the_run_is_logged_offline(tmp_path):
    changes = {"wandb.mode": "online"}
    started = time.monotonic()
    finish(start(tmp_path, before=QUICK, environment=account(closed_port()), **changes))
    assert time.monotonic() - started < 40
    run = run_of(make_config(tmp_path, **changes))
    assert run.status()["state"] == "finished" and len(run.rows()) == 2
    assert "W&B online failed" in log_of(run)
    assert list(run.folder.glob("wandb/offline-run-*")) and logged(run) == on_disk(run)


@pytest.mark.slow
def test_a_server_that_accepts_and_never_answers_costs_less_than_a_minute(tmp_path):
    changes = {"wandb.mode": "auto"}
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        started = time.monotonic()
        finish(start(tmp_path, environment=account(f"http://127.0.0.1:{mute.getsockname()[1]}"), **changes))
    assert time.monotonic() - started < 60
    run = run_of(make_config(tmp_path, **changes))
    assert run.status()["state"] == "finished" and logged(run) == on_disk(run)


# Which mode


def test_auto_without_credentials_is_offline():
    assert chosen_mode("auto") == "offline"


def test_auto_with_credentials_is_online_if_the_server_answers(tmp_path, monkeypatch):
    with Server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert chosen_mode("auto") == "offline"
        (tmp_path / ".netrc").write_text("machine example.org login user password x\n")
        (tmp_path / ".netrc").chmod(0o600)
        assert chosen_mode("auto") == "offline"
        (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login user password {KEY}\n")
        assert chosen_mode("auto") == "online"
        (tmp_path / ".netrc").unlink()
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        assert chosen_mode("auto") == "online"
    started = time.monotonic()
    assert chosen_mode("auto") == "offline"  # gone
    assert time.monotonic() - started < 10


def test_a_broken_netrc_is_no_credentials(tmp_path):
    (tmp_path / ".netrc").write_text("machine machine machine")
    assert chosen_mode("auto") == "offline"


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_the_environment_decides_for_auto_and_the_config_over_it(monkeypatch, mode):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", mode)
    assert chosen_mode("auto") == mode
    assert chosen_mode("online") == "online"


# Failures of W&B itself


class FakeWandb(types.ModuleType):
    """A wandb that notes what is called, and raises in one place."""

    def __init__(self, broken: str | None = None):
        super().__init__("wandb")
        self.broken, self.calls, self.modes = broken, [], []
        self.summary = {}

    def note(self, name: str) -> None:
        self.calls.append(name)
        if name == self.broken:
            raise RuntimeError("W&B is broken\nand says so at length")

    def Settings(self, **_):
        self.note("Settings")

    def init(self, mode, **_):
        self.modes.append(mode)
        self.note("init")
        self.note(f"init {mode}")
        return self

    def teardown(self, *_, **__):
        self.note("teardown")

    def define_metric(self, *_, **__):
        self.note("define_metric")

    def log(self, row, *_, **__):
        self.note("log")

    def finish(self, *_, **__):
        self.note("finish")


@pytest.fixture
def fake_wandb(monkeypatch):
    def install(broken: str | None = None) -> FakeWandb:
        fake = FakeWandb(broken)
        monkeypatch.setitem(sys.modules, "wandb", fake)
        return fake

    return install


@pytest.mark.parametrize("broken", ["Settings", "init", "define_metric", "log", "finish"])
def test_a_wandb_that_raises_does_not_hurt_the_run_and_leaves_a_line(tmp_path, fake_mnist, fake_wandb, broken):
    fake = fake_wandb(broken)
    run = execute(make_config(tmp_path, epochs=3, **{"wandb.mode": "offline"}))
    assert run.status()["state"] == "finished" and len(run.rows()) == 3
    (line,) = [line for line in log_of(run).splitlines() if "W&B" in line]
    assert "RuntimeError: W&B is broken" in line and "disk only" in line
    # After that it is left alone: what the line says is true.
    assert fake.calls.count(broken) == 1
    assert fake.calls.count("log") == {"log": 1, "finish": 3}.get(broken, 0)


def test_a_wandb_that_is_not_installed_leaves_a_line(tmp_path, fake_mnist, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    run = execute(make_config(tmp_path, **{"wandb.mode": "offline"}))
    assert run.status()["state"] == "finished" and "W&B failed" in log_of(run)


def test_a_failing_online_start_becomes_an_offline_one(tmp_path, fake_mnist, fake_wandb):
    fake = fake_wandb("init online")
    run = execute(make_config(tmp_path, **{"wandb.mode": "online"}))
    assert run.status()["state"] == "finished"
    assert fake.modes[-1] == "offline" and fake.calls.count("log") == 2


@pytest.mark.parametrize(("mode", "environment"), [("auto", "online"), ("online", "")])
def test_online_without_credentials_never_reaches_wandb_s_question(
    tmp_path, fake_mnist, fake_wandb, monkeypatch, mode, environment
):
    """At a terminal wandb.init(mode="online") without a key asks "Enter your choice:" and waits for ever."""
    monkeypatch.setenv("WANDB_MODE", environment)
    fake = fake_wandb()
    with contextlib.suppress(ConfigError):  # to refuse it in a line is as good as to log offline
        execute(make_config(tmp_path, **{"wandb.mode": mode}))
    assert "online" not in fake.modes


def test_disabled_does_not_touch_wandb(tmp_path, fake_mnist, fake_wandb):
    fake = fake_wandb()
    run = execute(make_config(tmp_path, **{"wandb.mode": "disabled"}))
    assert fake.calls == [] and not (run.folder / "wandb").exists()


def test_every_epoch_is_logged_once_and_the_run_is_finished(tmp_path, fake_mnist, fake_wandb):
    fake = fake_wandb()
    execute(make_config(tmp_path, epochs=3, **{"wandb.mode": "offline"}))
    assert fake.calls.count("log") == 3 and fake.calls[-1] == "finish"
