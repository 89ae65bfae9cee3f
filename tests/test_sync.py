"""make sync: everything that was logged reaches the server, and nothing twice."""

from pathlib import Path

import pytest
import wandb

from dashboards.sync import sync, watch
from runs.interrupt import Interrupted
from training import wandb_session
from training.execute import execute
from training.wandb_files import Files

from .helpers import make_config
from .test_tracking import agrees, logged, silence, stopping

pytestmark = pytest.mark.usefixtures("no_account")


@pytest.mark.slow  # depends on when the server stopped answering
def test_what_a_lost_server_lacks_is_sent_afterwards_and_once(tmp_path, fake_mnist, server, monkeypatch):
    config = make_config(tmp_path, epochs=4, **{"wandb.mode": "online", "wandb.artifacts": "tables"})
    with pytest.raises(Interrupted):
        execute(config, stopping(2, Interrupted(15)))  # these two have arrived
    monkeypatch.setattr(wandb_session, "FINISH_SECONDS", 1)
    run = execute(config, lambda row: silence(server, monkeypatch) if row["epoch"] == 3 else None)
    assert not agrees(server.run.rows, run) and len(run.rows()) == 4
    wandb.teardown()  # as if that process had ended
    server.mute = False
    for _ in range(2):  # twice is once
        assert sync(tmp_path / "results" / "runs") == 0
        assert agrees(server.run.rows, run) and server.run.state == "finished"
    assert server.run.summary["state"] == "finished" and len(server.run.about["tags"]) == 4
    assert any(artifact.committed and "metrics.csv" in artifact.files for artifact in server.artifacts.values())


def test_what_was_logged_offline_in_several_sessions_is_uploaded_once(tmp_path, fake_mnist, server, monkeypatch):
    """A run that began offline goes on offline, so that its epochs arrive in order; an empty file stops nothing."""
    config = make_config(tmp_path, epochs=4, **{"wandb.mode": "offline"})
    with pytest.raises(Interrupted):
        execute(config, stopping(2, Interrupted(15)))
    config.wandb.mode = "online"
    run = execute(config)
    assert server.runs == {} and len(list(run.folder.glob("wandb/offline-run-*"))) == 2
    empty = run.folder / "wandb" / "offline-run-20200101_000000-x"
    empty.mkdir()
    (empty / "run-x.wandb").write_bytes(b":W&B\0\0\0")
    wandb.teardown()  # as if those processes had ended
    for _ in range(2):
        assert sync(tmp_path / "results" / "runs") == 0
        assert agrees(server.run.rows, run)
    assert server.run.about["displayName"] == run.name and Files(run.folder).unsent("*run") == []


def test_a_run_in_training_is_left_alone(tmp_path, fake_mnist, server, capsys):
    def try_it(row: dict) -> None:
        if row["epoch"] == 2:
            assert sync(tmp_path / "results" / "runs") == 0

    run = execute(make_config(tmp_path, epochs=3, **{"wandb.mode": "offline"}), try_it)
    assert server.runs == {} and "nothing to upload" in capsys.readouterr().out
    assert agrees(logged(run), run)


def test_a_run_that_cannot_be_sent_is_named_and_stops_no_other(tmp_path, fake_mnist, server, monkeypatch, capsys):
    monkeypatch.setattr(wandb_session, "FINISH_SECONDS", 1)
    for seed in (0, 1):
        with monkeypatch.context() as patch:
            execute(make_config(tmp_path, seed=seed, **{"wandb.mode": "online"}), lambda row: silence(server, patch))
        server.mute = False
        wandb_session._silences.clear()
    monkeypatch.setattr("dashboards.sync.records_of", broken_once())
    assert sync(tmp_path / "results" / "runs") == 1
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["not", "sent"] and "RuntimeError: broken" in said[0]


def broken_once():
    from training.wandb_files import records_of

    calls = []

    def reading(path):
        calls.append(path)
        if len(calls) == 1:
            raise RuntimeError("broken")
        return records_of(path)

    return reading


def test_watch_without_runs_says_so(tmp_path, capsys):
    assert watch(tmp_path) == 2 and "no run below" in capsys.readouterr().out


def test_watch_gives_w_and_b_s_viewer_every_run_at_once(tmp_path, fake_mnist, monkeypatch):
    """The viewer itself needs a terminal; it is given a folder as W&B makes them."""
    seen = []

    def viewer(command, **_):
        folder = command[-1]
        seen.extend([command[1:-1], sorted(path.resolve() for path in Path(folder).iterdir())])
        return type("Done", (), {"returncode": 0})

    runs = [execute(make_config(tmp_path, seed=seed, **{"wandb.mode": "offline"})) for seed in (0, 1)]
    monkeypatch.setattr("dashboards.sync.subprocess.run", viewer)
    assert watch(tmp_path / "results" / "runs") == 0
    command, folders = seen
    assert command == ["-m", "wandb", "leet"]
    assert set(folders) == {folder for run in runs for folder in run.folder.glob("wandb/offline-run-*")}
