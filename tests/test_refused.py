"""What cannot work is refused in one line, with the right status, and leaves nothing behind."""

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from analysis.records import command
from data.errors import DataError
from runs import cli
from runs.files import DamagedFile
from runs.interrupt import MESSAGE, StopRequest
from runs.run import RunBusy
from runs.schema import ConfigError
from training.execute import execute

from .helpers import ROOT, clean_environment, composed, make_config, run_of

REFUSED = {
    "schedule=warm_restarts schedule.first=0": "schedule.first=0",
    "schedule=warm_restarts schedule.longer=-1": "schedule.longer=-1",
    "schedule=step schedule.factor=1.5": "schedule.factor=1.5",
    "schedule=step schedule.milestones=[3,2]": "schedule.milestones",
    "schedule=step schedule.milestones=[2,2]": "schedule.milestones",
    "schedule=step schedule.milestones=[-1]": "schedule.milestones",
    "schedule.name=step": "schedule.milestones is missing",
    "schedule.name=other": "schedule.name=other",
    "optimizer.name=other": "optimizer.name=other",
    "model.name=other": "model.name=other",
    "dataset.mean=[0.5,0.5]": "dataset.mean",
    "dataset.std=[0]": "dataset.std",
    "optimizer.lr=1e-60": "optimizer.lr=1e-60",
    "optimizer.weight_decay=1e60": "optimizer.weight_decay=1e+60",
    "batch_size=1000000": "batch_size=1000000: mnist has 60000 images",
    "accumulate=200": "accumulate=200",
    "dataset.workers=-1": "dataset.workers=-1",
    "checkpoint_seconds=nan": "checkpoint_seconds=nan",
    "seed=99999999999999999999": "seed=",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_values_are_refused_before_anything_is_created(overrides):
    with pytest.raises(ConfigError) as caught:
        cli.plain(composed(*overrides.split()))
    assert str(caught.value).startswith(REFUSED[overrides]) and "\n" not in str(caught.value)


GROUPS = ["tier=1.5", "experiment=-0", "source=0", "model=null", "schedule=true", "tier=nan", "model=[1]", "dataset=[]"]


@pytest.mark.parametrize("argument", GROUPS)
def test_a_number_is_no_option_of_a_group(argument, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", argument])
    monkeypatch.setattr(cli.hydra_private, "on_usage_error", lambda leave: None)
    with pytest.raises(SystemExit) as left:
        cli.run(lambda: pytest.fail("composed"))
    group = argument.split("=")[0]
    assert left.value.code == 2
    assert capsys.readouterr().err == f"error: {argument}: choose one of the options in configs/{group}/\n"


@pytest.mark.parametrize("changes", [{"device": "meta"}, {"threads": 100_000}, {"dataset.num_classes": 9},
                                     {"dataset.augment": "resized_crop_flip"}, {"dataset.subset": 70_000},
                                     {"dataset.image_shape": [1, 8, 8]}], ids=str)  # fmt: skip
def test_what_is_refused_later_leaves_no_run_folder(tmp_path, fake_mnist, changes):
    config = make_config(tmp_path, **changes)
    with pytest.raises((ConfigError, DataError)) as caught:
        execute(config)
    assert "\n" not in str(caught.value) and not run_of(config).folder.exists()


def test_a_world_without_torchruns_variables_is_refused(monkeypatch):
    for name, value in (("WORLD_SIZE", "2"), ("WORLD_SIZE", "x"), ("WORLD_SIZE", "-1")):
        monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError, match=r"WORLD_SIZE=.*start it with torchrun, or unset both"):
            cli.plain(composed())


def test_a_data_folder_that_is_not_there_is_not_created_and_no_probe_is_left(tmp_path):
    config = asdict(make_config(tmp_path, data_dir=str(tmp_path / "typo")))
    with pytest.raises(ConfigError, match=r"^data_dir=.*typo: there is no such folder"):
        cli.check_folders(config)
    assert list(tmp_path.iterdir()) == []
    cli.check_folders(config, writes=False)
    assert list(tmp_path.iterdir()) == []
    cli.check_folders(config | {"data_dir": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for folder in ("/proc/x/y", f"{tmp_path}/file/runs", f"{tmp_path}/{'x' * 300}"):
        with pytest.raises(ConfigError, match=r"^runs=.* cannot be written \("):
            cli.check_folders(config | {"data_dir": str(tmp_path), "runs": folder})


@pytest.mark.parametrize(("error", "status"), [
    (ConfigError("x"), 2), (DataError("x"), 2), (OSError(errno.ENOSPC, "No space left on device"), 1),
    (RunBusy("x"), 1), (DamagedFile("x"), 1),
])  # fmt: skip
def test_the_status_says_whose_mistake_it_was(error, status, capsys):
    with pytest.raises(SystemExit) as left:
        cli.leave(error)
    assert left.value.code == status and len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("handler", ["during_imports", "at_start"])
@pytest.mark.parametrize("where", ["in an import", "outside"])
def test_ctrl_c_is_one_line_also_while_modules_are_imported(tmp_path, where, handler):
    (tmp_path / "interrupted.py").write_text(
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException:\n    pass\n"
    )
    (tmp_path / "swallows.py").write_text("try:\n    import interrupted\nexcept BaseException:\n    1 / 0\n")
    last = {"in an import": "import swallows", "outside": "os.kill(os.getpid(), signal.SIGINT)"}[where]
    code = f"""if True:
        import os, signal, sys
        from runs.interrupt import {handler}
        signal.signal(signal.SIGINT, {handler})
        sys.path.append({str(tmp_path)!r})
        try:
            {last}
        except KeyboardInterrupt:
            sys.exit(130)
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=clean_environment(tmp_path), capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 130 and done.stderr.strip() == (
        "" if (where, handler) == ("outside", "during_imports") else MESSAGE
    )


def test_ctrl_c_while_a_figure_or_report_is_drawn_is_one_line(capsys):
    def draw():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as left:
        command(draw)
    assert left.value.code == 130 and capsys.readouterr().err.strip() == "stopped"


def test_the_time_that_a_process_was_stopped_is_no_training(tmp_path, fake_mnist, monkeypatch):
    from training.trainer import Trainer

    step = Trainer.train_step

    def stopped(self, inputs, labels):
        step(self, inputs, labels)
        if self.step == 3:
            pid = os.fork()
            if pid == 0:  # a child that wakes its parent
                time.sleep(1)
                os.kill(os.getppid(), signal.SIGCONT)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGSTOP)
            os.waitpid(pid, 0)

    monkeypatch.setattr(Trainer, "train_step", stopped)
    began = time.perf_counter()
    run = execute(make_config(tmp_path, epochs=1))
    assert time.perf_counter() - began > run.status()["seconds"] + 0.9


def test_nohup_stays_nohup_and_a_closed_terminal_stops_a_run():
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGHUP)
    assert stop.requested == signal.SIGHUP
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
        assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)
