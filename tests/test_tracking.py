"""W&B gets every epoch once, asks no questions, and cannot harm a run."""

import json
import logging
import os
import pty
import shutil
import socket
import subprocess
import sys
import time
import types

import pytest
import wandb
from wandb.util import get_core_path

from data.errors import DataError
from runs.interrupt import Interrupted
from runs.merge import merge
from runs.run import Run
from runs.schema import ConfigError
from training import tracking, view, wandb_session
from training.execute import execute
from training.wandb_files import Files
from training.wandb_session import Mode, chosen_mode

from .helpers import ROOT, clean_environment, make_config, program, run_of, start
from .wandb_stub import ENTITY, KEY, Server

pytestmark = pytest.mark.usefixtures("no_account")
OFFLINE = {"wandb.mode": "offline"}


def records(run: Run, kind: str) -> list[dict]:
    """The records of this kind in all of W&B's files of the run, oldest file first, as W&B's own program reads them."""
    wandb.teardown()  # until a process ends W&B may still be writing
    found = []
    for file in sorted(run.folder.glob("wandb/*run-*/run-*.wandb"), key=lambda path: path.stat().st_ctime):
        # What `wandb leet inspect --json` calls, without its two seconds of imports.
        command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", "--run-file", file, run.folder]
        shown = subprocess.run(command, env=clean_environment(run.folder), capture_output=True, text=True, timeout=100)
        found += [json.loads(line) for line in shown.stdout.splitlines()]
    return [record[kind] for record in found if record["type"] == kind]


def logged(run: Run) -> list[dict]:
    """The rows of metrics in W&B's files, without what W&B adds to them."""
    return [{k: v for k, v in record["item"].items() if k[0] != "_"} for record in records(run, "history")]


def epochs(rows: list[dict]) -> list[int]:
    return [row["epoch"] for row in rows]


def agrees(rows: list[dict], run: Run) -> bool:
    """Whether rows sent to W&B are those of metrics.csv, each once and in order."""
    columns = {"train/acc": "train_acc", "test/loss": "test_loss", "optim/grad_norm1": "grad_norm1", "epoch": "epoch"}
    sent = [[row[name] for name in columns] for row in rows]
    return sent == [[row[column] for column in columns.values()] for row in run.rows()]


def stopping(epoch: int, error: BaseException):
    """An observer that raises at this epoch, which W&B has then been told of and the disk has not."""

    def observe(row: dict) -> None:
        if row["epoch"] == epoch:
            raise error

    return observe


def silence(server: Server, monkeypatch) -> None:
    """From now on the server accepts and never answers; the suite soon notices."""
    server.mute = True
    monkeypatch.setattr(wandb_session, "PROBE_SECONDS", 0.5)


def log_of(run: Run) -> str:
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
    assert child.wait(timeout=110) == 0  # nobody types
    assert b"choice" not in os.read(keyboard, 100_000)
    os.close(keyboard), os.close(terminal)

    run = run_of(make_config(tmp_path, **changes))
    (folder,) = run.folder.glob("wandb/*run-*-*")
    assert folder.name.startswith("offline-run-")
    assert agrees(logged(run), run) and epochs(logged(run)) == [1, 2, 3]
    (record,) = records(run, "run")
    assert (record["run_id"], record["display_name"], record["project"]) == (
        Files(run.folder).id(),
        run.name,
        "powersgd",
    )
    assert record["run_id"].startswith(run.id) and record["run_group"].startswith("mnist-mlp3-powersgdm-")
    assert record["job_type"] == "single"
    assert record["tags"] == ["smoke", "mnist", "mlp", "powersgdm", "fig2"]
    sent = record["config"]["update"]
    assert (sent["seed"], sent["epochs"], sent["width"], sent["optimizer"]) == (0, 3, 16, "powersgdm")
    assert [end["exit_code"] for end in records(run, "exit")] == [0]
    assert "offline (no credentials" in log_of(run) and "make watch" in log_of(run) and "make sync" in log_of(run)


def test_metrics_are_drawn_over_epochs_batches_over_steps_and_layers_stay_out_of_the_way(tmp_path, fake_mnist):
    run = execute(make_config(tmp_path, **OFFLINE, **{"wandb.log_every": 4}))
    metrics = {metric.get("name") or metric["glob_name"]: metric for metric in records(run, "metric")}
    assert metrics["test/*"]["step_metric"] == "epoch" and metrics["train/batch_loss"]["step_metric"] == "step"
    assert [name for name, metric in metrics.items() if name[-1] == "*" and metric["options"].get("hidden")] == [
        "layers/*"
    ]
    patterns = [name.removesuffix("*") for name in metrics if name[-1] == "*"]
    for name in logged(run)[2]:  # of two patterns W&B would take either
        assert sum(name.startswith(pattern) for pattern in patterns) == (0 if name in view.AXES else 1)
    rows = logged(run)
    assert [row["step"] for row in rows] == [4, 8, 10, 14, 18, 20]  # 10 batches an epoch
    (first, second, epoch), images = rows[:3], 300
    assert (first["images_seen"], first["epoch"]) == (128, 128 / images)
    weighted = (first["train/batch_loss"] + second["train/batch_loss"]) * 128
    assert weighted < epoch["train/loss"] * images < weighted * 2  # 44 images more
    assert [metric for metric in first if "/" in metric] == ["train/batch_acc", "train/batch_loss"]


def test_the_summary_says_how_the_run_ended_and_its_best(tmp_path, fake_mnist):
    run = execute(make_config(tmp_path, epochs=3, **OFFLINE))
    summary = {key: value for record in records(run, "summary") for key, value in record["update"].items()}
    accuracies = [row["test_acc"] for row in run.rows()]
    assert summary["test/best_acc"] == max(accuracies) and summary["test/last_acc"] == accuracies[-1]
    assert (summary["state"], summary["reason"]) == ("finished", "all epochs")


def test_wandb_s_files_may_lie_outside_the_run_store(tmp_path, fake_mnist):
    """A resumed run continues them there, and a merge leaves them there."""
    outside, elsewhere = tmp_path / "outside", tmp_path / "elsewhere"
    config = make_config(tmp_path, epochs=3, **OFFLINE, **{"wandb.folder": str(outside)})
    with pytest.raises(Interrupted):
        execute(config, stopping(2, Interrupted(15)))
    begun = tmp_path / "begun"
    shutil.copytree(run_of(config).folder.parent, begun, symlinks=True)
    run = execute(config)
    assert run.id == run_of(make_config(tmp_path, epochs=3)).id
    assert len(list(outside.glob(f"{run.name}/offline-run-*/run-*.wandb"))) == 2
    assert {path for path in run.folder.rglob("*") if path.suffix == ".wandb"} == set()  # rglob follows no links
    assert epochs(logged(run)) == [1, 2, 3] and Files(run.folder).unsent("offline-run")
    for store in (elsewhere, begun):
        assert merge(run.folder.parent, store) == ([f"{run.name}: copied"], True)
        assert Run(store / run.name).ended() and not (store / run.name / "wandb").exists()


def test_a_folder_for_wandb_s_files_that_cannot_be_made_harms_no_run(tmp_path, fake_mnist):
    (tmp_path / "file").touch()
    run = execute(make_config(tmp_path, **OFFLINE, **{"wandb.folder": str(tmp_path / "file")}))
    assert run.status()["state"] == "finished" and "W&B failed" in (run.folder / "log.txt").read_text()


def test_an_interrupted_run_s_files_hold_every_epoch_once(tmp_path, fake_mnist):
    """The epoch that W&B had and the disk had not is computed again, and is not logged again."""
    config = make_config(tmp_path, epochs=5, **OFFLINE)
    for epoch in (2, 4):
        with pytest.raises(Interrupted):
            execute(config, stopping(epoch, Interrupted(15)))
    run = execute(config)
    assert len(list(run.folder.glob("wandb/offline-run-*"))) == 3
    assert epochs(logged(run)) == [1, 2, 3, 4, 5] and agrees(logged(run), run)
    assert len({record["run_id"] for record in records(run, "run")}) == 1
    summary = {key: value for record in records(run, "summary") for key, value in record["update"].items()}
    assert summary["train/best_acc"] == max(row["train_acc"] for row in run.rows())  # of all sessions


def test_a_killed_run_s_files_hold_what_it_logged_until_a_second_before(tmp_path, fake_mnist):
    changes = OFFLINE | {"epochs": 3}
    killed = start(tmp_path, lockstep=True, **changes)
    killed.stdout.readline(), killed.stdin.write("\n"), killed.stdin.flush()
    killed.stdout.readline()
    run = run_of(make_config(tmp_path, **changes))
    deadline = time.monotonic() + 10  # W&B alone would write after 15
    while len(logged(run)) < 2 and time.monotonic() < deadline:
        time.sleep(0.5)
    killed.kill()
    killed.communicate()
    assert epochs(logged(run)) == [1, 2]
    execute(make_config(tmp_path, **changes))
    assert epochs(logged(run)) == [1, 2, 3]


def test_an_artifact_holds_the_records_and_if_asked_for_the_checkpoint(tmp_path, fake_mnist):
    run = execute(make_config(tmp_path, **OFFLINE, **{"wandb.artifacts": "tables"}))
    (kept,) = records(run, "artifact")
    assert kept["type"] == "run" and {"config.yaml", "metrics.csv", "status.json", "log.txt"} == paths(kept)
    run = execute(make_config(tmp_path, seed=1, **OFFLINE, **{"wandb.artifacts": "checkpoints"}))
    assert "checkpoint.pt" in paths(records(run, "artifact")[0])
    assert records(execute(make_config(tmp_path, seed=2, **OFFLINE)), "artifact") == []


def paths(artifact: dict) -> set[str]:
    return {entry["path"] for entry in artifact["manifest"]["contents"]}


# A refused command leaves nothing


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"data_dir": "/nowhere"}, DataError), ({"device": "cuda"}, ConfigError), ({"precision": "tf32"}, ConfigError),
     ({"dataset.subset": 10**6}, (ConfigError, DataError))],
)  # fmt: skip
def test_a_refused_command_leaves_no_run_on_w_and_b(tmp_path, fake_mnist, server, changes, error):
    config = make_config(tmp_path, **{"wandb.mode": "online"}, **changes)
    if changes.get("data_dir"):
        config.data_dir = str(tmp_path / "nothing")
        config.dataset.name = "cifar10"
    with pytest.raises(error):
        execute(config)
    assert server.runs == {} and not (run_of(config).folder / "wandb").exists()


# Online, with a server on this machine


def test_online_every_epoch_arrives_and_a_line_says_where(tmp_path, fake_mnist, server):
    said = []
    run = execute(make_config(tmp_path, epochs=3, experiment="fig2", **{"wandb.mode": "auto"}), say=said.append)
    ((entity, project, id),) = server.runs
    assert (entity, project) == (ENTITY, "powersgd") and id.startswith(run.id)
    assert agrees(server.run.rows, run) and server.run.state == "finished"
    assert server.run.about["displayName"] == run.name and server.run.about["jobType"] == "single"
    assert server.run.about["groupName"].startswith("mnist-mlp3-powersgdm")
    assert server.run.config["epochs"]["value"] == 3
    assert said[1:] == [f"W&B: {server.url}/{ENTITY}/powersgd/runs/{id}"]
    assert Files(run.folder).unsent("*run") == []


def test_online_an_interrupted_run_arrives_once_and_is_preempted_in_between(tmp_path, fake_mnist, server):
    config = make_config(tmp_path, epochs=4, **{"wandb.mode": "online"})
    with pytest.raises(Interrupted):
        execute(config, stopping(3, Interrupted(15)))
    assert epochs(server.run.rows) == [1, 2, 3] and server.run.preempting
    run = execute(config)
    assert agrees(server.run.rows, run) and server.run.state == "finished"


def test_two_people_who_train_the_same_run_in_one_project_have_two_runs(tmp_path, fake_mnist, server):
    config = make_config(tmp_path, **{"wandb.mode": "online"})
    one = execute(config)
    config.runs = str(tmp_path / "theirs")
    other = execute(config)
    assert one.id == other.id and len(server.runs) == 2
    for run, stored in zip((one, other), server.runs.values(), strict=True):
        assert agrees(stored.rows, run)


def test_a_run_that_was_deleted_there_is_a_new_one(tmp_path, fake_mnist, server, monkeypatch):
    config = make_config(tmp_path, epochs=3, **{"wandb.mode": "online"})
    with pytest.raises(Interrupted):
        execute(config, stopping(2, Interrupted(15)))
    (before,) = server.runs.values()
    before.deleted = True
    monkeypatch.setattr(wandb_session, "INIT_SECONDS", 4)  # W&B itself asks again until then
    run = execute(config)
    _, after = server.runs.values()
    assert agrees(after.rows, run)  # from the first epoch on
    assert Files(run.folder).id() == after.about["name"] != before.about["name"]


def test_a_server_that_dies_in_the_middle_does_not_hurt_the_run(tmp_path, fake_mnist, server, monkeypatch):
    monkeypatch.setattr(wandb_session, "FINISH_SECONDS", 1)

    def die(row: dict) -> None:
        if row["epoch"] == 2:
            silence(server, monkeypatch)

    run = execute(make_config(tmp_path, epochs=4, **{"wandb.mode": "auto"}), die)
    assert run.status()["state"] == "finished" and len(run.rows()) == 4
    assert "W&B finish failed (TimeoutError" in log_of(run) and "make sync" in log_of(run)
    assert agrees(logged(run), run) and len(Files(run.folder).unsent("run")) == 1  # there to be uploaded another day


@pytest.mark.parametrize("mode", ["auto", "online"])
def test_a_server_that_accepts_and_never_answers_is_given_up_after_the_probe(tmp_path, fake_mnist, monkeypatch, mode):
    monkeypatch.setattr(wandb_session, "PROBE_SECONDS", 0.5)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{mute.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        run = execute(make_config(tmp_path, **{"wandb.mode": mode}))
    assert "W&B: offline" in log_of(run) and "does not answer" in log_of(run)
    assert list(run.folder.glob("wandb/offline-run-*")) and agrees(logged(run), run)
    assert not list(run.folder.glob("wandb/run-*"))  # it was not tried


@pytest.mark.slow
def test_no_server_costs_a_whole_program_more_than_20_seconds(tmp_path):
    """Measured, from the first import to the last process gone: mute at once, after the probe, and in the middle."""
    started = time.monotonic()
    start(tmp_path, **OFFLINE).communicate()
    alone = time.monotonic() - started
    for seed, mute_after in enumerate((0, 1, 4)):
        with Server() as server:
            server.mute_after = mute_after
            account = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
            started = time.monotonic()
            process = start(tmp_path, environment=account, seed=seed, **{"wandb.mode": "auto", "epochs": 3})
            process.communicate()
            assert process.returncode == 0 and time.monotonic() - started < alone + 20, mute_after
    with Server() as server:
        server.delay = 2.5
        account = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
        started = time.monotonic()
        start(tmp_path, environment=account, seed=9, **{"wandb.mode": "auto"}).communicate()
        assert time.monotonic() - started < alone + 20


# What W&B's own settings say


def test_what_is_not_given_is_w_and_b_s_to_say(tmp_path, fake_mnist, server, monkeypatch):
    given = {"WANDB_PROJECT": "ours", "WANDB_ENTITY": "team", "WANDB_TAGS": "mine,yours", "WANDB_RUN_GROUP": "a group",
             "WANDB_NOTES": "a note"}  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    execute(make_config(tmp_path, **{"wandb.mode": "online"}))
    ((entity, project, _),) = server.runs
    assert (entity, project) == ("team", "ours")
    about = server.run.about
    assert (about["groupName"], about["notes"]) == ("a group", "a note")
    assert {"mine", "yours", "mnist", "mlp", "powersgdm"} <= set(about["tags"])


def test_what_is_given_goes_before_what_w_and_b_says(tmp_path, fake_mnist, server, monkeypatch):
    for name in ("PROJECT", "ENTITY", "TAGS", "RUN_GROUP", "NOTES"):
        monkeypatch.setenv(f"WANDB_{name}", "elsewhere")
    given = {"project": "here", "entity": "us", "tags": ["this"], "group": "these", "notes": "why"}
    execute(make_config(tmp_path, **{"wandb.mode": "online"} | {f"wandb.{key}": value for key, value in given.items()}))
    ((entity, project, _),) = server.runs
    about = server.run.about
    assert (entity, project, about["groupName"], about["notes"]) == ("us", "here", "these", "why")
    assert "this" in about["tags"] and "elsewhere" not in about["tags"]


@pytest.mark.parametrize(("system", "expected"), [("always", True), ("auto", False), ("never", False)])
def test_statistics_of_the_machine_are_for_those_who_ask_and_for_gpus(
    tmp_path, fake_mnist, fake_wandb, system, expected
):
    fake = fake_wandb()
    execute(make_config(tmp_path, **OFFLINE, **{"wandb.system": system}))
    assert fake.settings["x_disable_stats"] is not expected


# Which mode


def test_auto_without_credentials_is_offline_and_says_so():
    assert chosen_mode("auto").name == chosen_mode("online").name == "offline"
    assert "wandb login" in chosen_mode("auto").why and "wandb login" in chosen_mode("online").why


@pytest.mark.parametrize("where", ["netrc", "environment"])
def test_auto_with_credentials_is_online_if_the_server_answers(tmp_path, server, monkeypatch, where):
    if where == "netrc":
        monkeypatch.delenv("WANDB_API_KEY")
        assert chosen_mode("auto").name == "offline"
        netrc = tmp_path / "home" / ".netrc"
        netrc.write_text(f"machine {server.url.removeprefix('http://')} login user password {KEY}\n")
        netrc.chmod(0o600)
    assert chosen_mode("auto").name == "online"
    server.__exit__()
    mode = chosen_mode("auto")
    assert mode.name == "offline" and "does not answer" in mode.why


def test_a_server_that_does_not_answer_is_not_asked_again_by_every_run(monkeypatch):
    monkeypatch.setattr(wandb_session, "PROBE_SECONDS", 0.2)
    with Server() as server:
        server.mute = True
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        for _ in range(5):
            assert chosen_mode("auto").name == "offline"
        assert len(server.connections) == 1


@pytest.mark.parametrize("instead", ["hang", "500", "close", "drip"])
def test_a_server_that_fails_is_known_within_the_probe(instead):
    with Server() as server:
        server.mute, server.instead = True, instead
        started = time.monotonic()
        assert wandb_session.silent(server.url, 1.0)
        assert time.monotonic() - started < 3


def test_a_broken_netrc_is_no_credentials(tmp_path):
    (tmp_path / "home" / ".netrc").write_text("machine machine machine")
    assert chosen_mode("auto").name == "offline"


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_the_environment_decides_for_auto_and_the_config_over_it(server, monkeypatch, mode):
    monkeypatch.setenv("WANDB_MODE", mode)
    assert chosen_mode("auto").name == mode
    assert chosen_mode("online").name == "online"


# Failures of W&B itself


class FakeWandb(types.ModuleType):
    """A wandb that notes what is called, and raises in one place."""

    def __init__(self, broken: str | None = None):
        super().__init__("wandb")
        self.broken, self.calls, self.modes, self.settings = broken, [], [], {}
        self.summary, self.starting_step, self.url, self.id = {}, 0, "somewhere", "id"

    def note(self, name: str) -> None:
        self.calls.append(name)
        if name == self.broken:
            raise RuntimeError("W&B is broken\nand says so at length")

    def Settings(self, **settings):
        self.note("Settings")
        self.settings = settings

    def setup(self):
        return types.SimpleNamespace(settings=types.SimpleNamespace(base_url="", mode="online", project=None))

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
    (line,) = [line for line in log_of(run).splitlines() if "W&B" in line and "failed" in line]
    assert "RuntimeError: W&B is broken" in line
    assert "disk only" in line or "metrics.csv has everything" in line
    # After that it is left alone: what the line says is true.
    assert fake.calls.count(broken) == 1
    assert fake.calls.count("log") == {"log": 1, "finish": 3}.get(broken, 0)


def test_a_full_disk_under_w_and_b_s_log_prints_no_tracebacks(monkeypatch, capsys):
    monkeypatch.setattr(logging, "raiseExceptions", True)
    wandb_session.wandb_module()
    full = types.SimpleNamespace(write=lambda line: os.write(os.open("/dev/full", os.O_WRONLY), line.encode()))
    logging.StreamHandler(full).handle(logging.makeLogRecord({"msg": "a line"}))
    assert capsys.readouterr().err == ""


def test_a_wandb_that_is_not_installed_leaves_a_line(tmp_path, fake_mnist, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    run = execute(make_config(tmp_path, **{"wandb.mode": "offline"}))
    assert run.status()["state"] == "finished" and "W&B failed" in log_of(run)


def test_a_failing_online_start_becomes_an_offline_one(tmp_path, fake_mnist, fake_wandb, monkeypatch):
    fake = fake_wandb("init online")
    monkeypatch.setattr(tracking, "chosen_mode", Mode)
    run = execute(make_config(tmp_path, **{"wandb.mode": "online"}))
    assert run.status()["state"] == "finished"
    assert fake.modes[-1] == "offline" and fake.calls.count("log") == 2


@pytest.mark.parametrize(("mode", "environment"), [("auto", "online"), ("online", "")])
def test_online_without_credentials_never_reaches_wandb_s_question(
    tmp_path, fake_mnist, fake_wandb, monkeypatch, mode, environment
):
    """At a terminal wandb.init(mode="online") without a key asks "Enter your choice:" and waits forever."""
    monkeypatch.setenv("WANDB_MODE", environment)
    monkeypatch.setattr(wandb_session, "has_credentials", lambda server: False)
    fake = fake_wandb()
    run = execute(make_config(tmp_path, **{"wandb.mode": mode}))
    assert fake.modes == ["offline"] and "no credentials" in log_of(run)


def test_disabled_does_not_touch_wandb(tmp_path, fake_mnist, fake_wandb):
    fake = fake_wandb()
    run = execute(make_config(tmp_path, **{"wandb.mode": "disabled"}))
    assert fake.calls == [] and not (run.folder / "wandb").exists()


def test_every_epoch_is_logged_once_and_the_run_is_finished(tmp_path, fake_mnist, fake_wandb):
    fake = fake_wandb()
    execute(make_config(tmp_path, epochs=3, **{"wandb.mode": "offline"}))
    assert fake.calls.count("log") == 3 and fake.calls[-1] == "finish"
