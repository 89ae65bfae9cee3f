"""What the user sees: start lines, progress at a terminal and in a log, help, the state of a sweep."""

import io
import json
import re
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from runs import usage
from runs.interrupt import Interrupted
from sweeps import launch, show
from sweeps.place import Place
from sweeps.plan import Plan
from training.execute import execute
from training.terminal import Terminal

from .helpers import ROOT, clean_environment, make_config, run_of

torch.set_num_threads(1)


class AtATerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def watched(config, done: int = 0, shown: bool = True) -> None:
    with Terminal(config.epochs, done, shown) as terminal:
        execute(config, terminal.epoch, terminal.say, terminal.step)


def test_a_run_says_what_on_what_where_and_if_it_was_resumed_or_finished_before(tmp_path, fake_mnist):
    config, said = make_config(tmp_path, epochs=4), []

    def stop(row: dict) -> None:
        if row["epoch"] == 2:
            raise Interrupted(15)

    run = run_of(config)
    with pytest.raises(Interrupted):
        execute(config, stop, said.append)
    assert said == [f"{run.name}: 4 epochs\ncpu; mnist, 300 images to train and 100 to test; {run.folder}"]
    execute(config, None, said.append)
    assert said[1].startswith(f"{run.name}: 4 epochs, resumed at epoch 2\n")  # the second was not saved
    execute(config, None, said.append)
    assert said[2:] == ["finished before, nothing trained"]


def test_a_log_file_has_a_line_an_epoch_and_none_for_epochs_before(tmp_path, fake_mnist, capsys):
    watched(make_config(tmp_path, epochs=3))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch ")]
    assert [line.split(",")[0] for line in lines] == ["epoch 1 of 3", "epoch 2 of 3", "epoch 3 of 3"]
    assert all(" left: train 0." in line for line in lines)
    watched(make_config(tmp_path, seed=1, epochs=3), done=2)  # two are on disk, say
    assert "epoch 3 of 3" in (text := capsys.readouterr().err) and "epoch 2 of 3" not in text
    watched(make_config(tmp_path, seed=2, epochs=3), shown=False)
    assert capsys.readouterr().err == ""


def test_at_a_terminal_the_bar_moves_within_the_first_epoch(tmp_path, fake_mnist, monkeypatch):
    monkeypatch.setattr(sys, "stderr", AtATerminal())
    seen = []
    config = make_config(tmp_path, epochs=2)
    with Terminal(2) as terminal:
        execute(
            config, terminal.epoch, terminal.say, lambda trainer: (terminal.step(trainer), seen.append(terminal.bar.n))
        )
    assert len(seen) == 20 and seen == sorted(set(seen)) and 0.1 < seen[0] < 0.11 and seen[9] == 1  # 10 steps an epoch
    assert "2.00/2 epochs" in sys.stderr.getvalue()


def test_asking_for_a_finished_run_imports_no_torch(tmp_path, fake_mnist):
    """Which takes longer than everything else that such a command does."""
    execute(make_config(tmp_path))
    config = json.dumps(asdict(make_config(tmp_path)))
    code = f"""
import json, sys
from runs import schema
from training.execute import execute
said = []
execute(schema.build(json.loads({config!r})), say=said.append)
print(said, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=clean_environment(tmp_path),
                          capture_output=True, text=True, timeout=100)  # fmt: skip
    assert done.stdout.strip() == "['finished before, nothing trained'] False", done.stderr


# A sweep


def job(label: str, epochs: int, epoch: int, state: str, folder: Path = Path()) -> SimpleNamespace:
    status = {"state": state, "epoch": epoch, "updated": "0"}
    run = SimpleNamespace(folder=folder, name=label, status=lambda: status, busy=lambda: True, id=label)
    return SimpleNamespace(label=label, config={"epochs": epochs}, run=run, status=status, done=state == "finished",
                           archived=None, rows=lambda: [{"test_acc": 0.9876}] * epoch)  # fmt: skip


def test_a_sweep_in_a_log_file_says_where_it_is_every_minute(monkeypatch, tmp_path):
    monkeypatch.setattr(launch, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(launch, "LOG_SECONDS", 0.05)
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    jobs = [job("one", 10, 10, "finished", tmp_path / "1"), job("two", 10, 2, "running", tmp_path / "2")]
    for one in jobs:
        one.run.folder.mkdir()
    progress = launch.Progress()
    try:
        progress.add(jobs)
        assert progress.line() == "1 of 2 runs, 12 of 20 epochs"
        jobs[1].run.status()["epoch"] = 6
        (jobs[1].run.folder / "status.json").touch()
        deadline = time.monotonic() + 60
        while log.getvalue().count("16 of 20") < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        progress.close()
    assert re.fullmatch(r"1 of 2 runs, 16 of 20 epochs, 00:\d\d left", log.getvalue().splitlines()[-1])


def test_the_state_of_a_sweep_fits_80_columns_and_has_no_empty_ones(monkeypatch, tmp_path):
    monkeypatch.setattr(show, "wanted", lambda *_: "about 33 hours on this machine (measured)")
    jobs = [job("tensorwise_normalised_sgd", 160, 160, "finished"), job("powersgdm", 160, 3, "running")]
    lines = show.status_table(
        Plan("fig1ab", "paper", tmp_path, jobs, [], waiting=[("sgd", {})] * 12), Place("cpu", 1)
    ).splitlines()
    assert lines[0].split() == ["entry", "runs", "finished", "running", "best"]
    assert lines[1].split() == ["tensorwise_normalised_sgd", "1", "1", "0.9876"]
    assert max(map(len, lines)) <= 80 and "33 hours" in " ".join(lines[3:])
    full = [job(state, 2, 1, state) for state in ("finished", "diverged", "running", "failed", "waiting")]
    assert max(map(len, show.status_table(Plan("x", "paper", tmp_path, full, []), Place("cpu", 1)).splitlines())) <= 80


def test_watching_a_sweep_shows_it_until_nothing_is_left(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(show, "wanted", lambda *_: "about 33 hours on this machine (measured)")
    slept = []
    monkeypatch.setattr(show.time, "sleep", slept.append)
    plans = [Plan("fig2", "paper", tmp_path, [job("sgd", 2, 1, state)], []) for state in ("running", "finished")]
    show.watch([SimpleNamespace(plan=lambda: plans.pop(0)), "fig9 left out"], Place("cpu", 1))
    out = capsys.readouterr().out
    assert slept == [show.LOG_SECONDS] and out.index("running") < out.index("finished") and plans == []


# Help


@pytest.mark.parametrize("program", usage.PAGES)
def test_help_is_a_screen_made_of_the_comments_of_train_yaml(program, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = usage.page(program)
    assert len(text.splitlines()) <= 54 and max(map(len, text.splitlines())) <= 100
    assert "schema" not in text and "planned" not in text and "${" not in text
    for setting, comment in re.findall(r"^(\w+): \w+ +# (.*)", (ROOT / "configs" / "train.yaml").read_text(), re.M):
        if f"  {setting}=" in text:
            assert comment.split()[0] in text, setting
    assert ("budget=12" in text, "batch_size=128" in text) == (program == "sweep.py", program == "train.py")


def test_help_knows_every_setting_but_those_that_the_program_sets(monkeypatch):
    text = usage.page("train.py") + usage.page("sweep.py")
    top = re.findall(r"^(\w+):", (ROOT / "configs" / "train.yaml").read_text(), re.M)
    hidden = {"defaults", "hydra", "planned", "batch_statistics"}
    assert [key for key in top if key not in hidden and f"\n  {key}" not in text] == []
