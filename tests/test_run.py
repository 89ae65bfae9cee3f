"""A run's identity and its folder: named by what it computes, whole after any failure, written by one process."""

import copy
import errno
import itertools
import math
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest

from runs import cli, schema
from runs.files import write_atomically
from runs.identity import identity, run_name
from runs.run import Run, RunBusy, RunError
from training.execute import execute

from .helpers import OPTIMIZERS, ROOT, clean_environment, composed, make_config

# Identity


def plain(*overrides: str) -> dict:
    return cli.plain(composed(*overrides))


def shuffled(value, rng):
    """The same dict with its keys in another order, all the way down."""
    if not isinstance(value, dict):
        return value
    keys = list(value)
    rng.shuffle(keys)
    return {key: shuffled(value[key], rng) for key in keys}


def leaves(value, prefix: tuple = ()):
    """The path of every setting that is not itself a group of settings."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, (*prefix, key))
    else:
        yield prefix


def changed(config: dict, path: tuple) -> dict:
    """The config with the setting at path set to another value of its kind."""
    config = copy.deepcopy(config)
    *parents, last = path
    part = config
    for key in parents:
        part = part[key]
    value = part[last]
    match value:
        case bool():
            part[last] = not value
        case int() | float():
            part[last] = value + 1
        case str():
            part[last] = value + "x"
        case list():
            part[last] = [*value, 1]
        case None:
            part[last] = 1
        case _:
            raise AssertionError(f"{path}: {value!r}")
    return config


def test_the_order_of_keys_does_not_count():
    config, rng = plain(), random.Random(0)
    assert {identity(shuffled(config, rng)) for _ in range(50)} == {identity(config)}
    assert any(list(shuffled(config, rng)) != list(config) for _ in range(5))


@pytest.mark.parametrize("spelling", ["0.1", "1e-1", "0.10", "1.0e-01", "1E-1"])
def test_the_spelling_of_a_number_does_not_count(spelling):
    assert identity(plain(f"optimizer.lr={spelling}")) == identity(plain("optimizer.lr=0.1"))


def test_int_and_float_of_one_value_are_one_number():
    assert identity(plain("optimizer.lr=1")) == identity(plain("optimizer.lr=1.0")) != identity(plain("optimizer.lr=2"))
    config = plain()
    config["optimizer"]["momentum"], zero = 0, identity(config)
    for other in (0.0, -0.0):
        config["optimizer"]["momentum"] = other
        assert identity(config) == zero


def test_close_numbers_are_two_numbers():
    names = {identity(plain(f"optimizer.lr={lr}")) for lr in ("0.1", "0.10000000000000002", "0.01", "1e-30")}
    assert len(names) == 4


# Written by hand, so that no setting becomes operational unnoticed.
OPERATIONAL = {
    "experiment", "tier", "source", "unavailable_reason", "seeds", "grid", "protocol", "also", "only", "plan", "status",
    "calibrate", "merge", "verify", "decide", "archive", "rerun", "planned", "budget", "retry", "report", "launcher",
    "experiments", "device", "threads", "accumulate", "channels_last", "compile", "deterministic", "sync_batchnorm",
    "cudnn_benchmark", "results", "runs", "data_dir", "checkpoint_seconds", "keep", "wandb", "progress", "watch",
    "model.summary", "optimizer.grid", "dataset.verify", "dataset.workers", "dataset.sizes",
}  # fmt: skip
SCIENCE = {"dataset", "model", "optimizer", "schedule", "epochs", "batch_size", "seed", "precision", "batch_statistics",
           "stop", "evaluate_train", "evaluations", "layer_norms", "format"}  # fmt: skip


SECTIONS = [*(f"optimizer={name}" for name in (*OPTIMIZERS, "adamw")), "schedule=step", "schedule=warm_restarts",
            *(f"model={name}" for name in ("resnet50", "densenet121", "resnext29", "wrn26"))]  # fmt: skip


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_operational_or_changes_the_identity(section):
    config = plain(section)
    assert {key for key in config if key not in OPERATIONAL} == SCIENCE
    seen = {identity(config): "the unchanged config"}
    for path in leaves(config):
        if path in (("model", "name"), ("optimizer", "name"), ("schedule", "name")):
            continue  # which choose the schema; below
        name = identity(changed(config, path))
        if path[0] in OPERATIONAL or ".".join(path[:2]) in OPERATIONAL:
            assert name == identity(config), path
        else:
            assert name not in seen, f"{path} gives the same identity as {seen.get(name)}"
            seen[name] = path


def test_experiment_and_tier_do_not_count_in_themselves():
    one = plain("experiment=fig2", "seed=3", "epochs=5", "optimizer=sgd", "optimizer.lr=0.1")
    assert identity(one) == identity(plain("seed=3", "epochs=5", "optimizer=sgd", "optimizer.lr=0.1"))


def test_train_py_and_execute_mean_the_same_run():
    """One names it by the plain config, the other by the dataclasses."""
    for optimizer in OPTIMIZERS:
        overrides = (f"optimizer={optimizer}", "optimizer.lr=1", "dataset.subset=100", "stop.success=1")
        assert run_name(plain(*overrides)) == run_name(asdict(cli.typed(composed(*overrides))))


def test_the_names_of_options_count():
    sgd, powersgd = plain("optimizer=sgd"), plain("optimizer=powersgd")
    for config, name in ((sgd, "sgdm"), (powersgd, "powersgdm")):
        assert identity(config) != identity(config | {"optimizer": config["optimizer"] | {"name": name}})


@pytest.mark.parametrize(
    ("path", "before"),
    [("dataset.folder", ""), ("dataset.validation", 0), ("dataset.test_subset", None), ("layer_norms", False),
     ("optimizer.nesterov", False), ("optimizer.dampening", 0.0), ("dataset.load", ""), ("dataset.code", None),
     ("model.code", None), ("optimizer.code", None)],
)  # fmt: skip
def test_a_setting_added_later_leaves_earlier_runs_their_names(path, before):
    config = plain("optimizer=sgdm")
    if path in ("model.code", "optimizer.code"):
        config[path.split(".")[0]] = {"name": "other", "class_path": "torch.nn.Other", "code": None}
    earlier, later = copy.deepcopy(config), copy.deepcopy(config)
    *sections, key = path.split(".")
    for one, value in ((earlier, None), (config, before), (later, 0.5)):
        part = one[sections[0]] if sections else one
        part.pop(key)
        if one is not earlier:
            part[key] = value
    assert identity(config) == identity(earlier) != identity(later)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_cannot_name_a_run(value):
    config = plain()
    config["optimizer"]["weight_decay"] = value
    with pytest.raises(schema.ConfigError):
        identity(config)


def test_the_name_of_a_run_says_what_it_is():
    name = run_name(plain("optimizer=powersgd", "optimizer.gamma=0.5", "optimizer.lr=1e-1", "model.depth=14", "seed=3"))
    assert name.startswith("mnist-mlp14-powersgd-lr0.1-gamma0.5-seed3-")
    other = run_name(plain("optimizer=adam"))
    assert other.startswith("mnist-mlp13-adam-lr0.001-seed0-") and "gamma" not in other
    assert Run(Path("x") / name).id == name[-12:] and all(c in "0123456789abcdef" for c in name[-12:])


# metrics.csv and status.json


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(tmp_path / "runs" / "name-0123456789ab")
    with run.locked():
        run.begin({"epochs": 3}, {"device": "cpu"}, "0123456789ab")
    return run


def row(epoch: int, **values) -> dict:
    return {"epoch": epoch, "loss": epoch / 3, "powered_norm1": None} | values


def same(one: list[dict], other: list[dict]) -> bool:
    return repr(one) == repr(other)  # nan is not equal to itself


ODD = [
    row(1, loss=0.1 + 0.2, powered_norm1=1e-320),
    row(2, loss=math.nan, powered_norm1=None),
    row(3, loss=math.inf, powered_norm1=-0.0),
    row(4, loss=2.0**60, powered_norm1=1 / 3),
]


def test_rows_come_back_exactly(run):
    assert run.rows() == []
    for number, one in enumerate(ODD, start=1):
        run.append(one)
        assert same(run.rows(), ODD[:number])
    lines = (run.folder / "metrics.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,powered_norm1" and len(lines) == 5
    run.write_rows(ODD)
    assert same(run.rows(), ODD)


def test_a_row_survives_a_power_cut_once_it_is_written(run, monkeypatch):
    """A status that says "finished" may only follow rows that are on the disk."""
    fsync, synced = os.fsync, []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino) or fsync(handle))
    run.append(ODD[0])
    assert (run.folder / "metrics.csv").stat().st_ino in synced


def test_metrics_that_agree_are_not_touched(run):
    for one in ODD:
        run.append(one)
    before = (run.folder / "metrics.csv").stat()
    run.write_rows(ODD)
    after = (run.folder / "metrics.csv").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_torn_last_line_is_repaired_wherever_it_was_torn(run):
    for one in ODD:
        run.append(one)
    path = run.folder / "metrics.csv"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        run.write_rows(ODD)
        assert path.read_bytes() == whole, whole[:length]
        # The row that the torn one belongs to may not have reached the checkpoint.
        path.write_bytes(whole[:length])
        run.write_rows(ODD[:2])
        assert same(run.rows(), ODD[:2])
        run.append(ODD[2])
        assert same(run.rows(), ODD[:3])


def test_a_torn_last_line_is_not_read_as_a_row(run):
    """train.py and the progress bar read a run that was killed, before anybody has repaired it."""
    for one in ODD:
        run.append(one)
    path = run.folder / "metrics.csv"
    whole = path.read_bytes()
    third, fourth = (whole.index(b"\n%d," % epoch) + 1 for epoch in (3, 4))
    for length in range(third + 1, fourth - 2):  # without the line's end
        path.write_bytes(whole[:length])
        assert same(run.rows(), ODD[:2]), whole[third:length]


def test_write_rows_takes_back_rows_that_are_not_to_be_there(run):
    for one in ODD:
        run.append(one)
    run.write_rows([])
    assert run.rows() == [] and not (run.folder / "metrics.csv").exists()


def test_a_run_has_ended_only_if_its_status_and_rows_agree(run):
    assert not run.ended()
    for state, rows, ended in [
        ("running", 3, False),
        ("failed", 3, False),
        ("finished", 2, False),
        ("finished", 4, False),
        ("finished", 0, False),
        ("finished", 3, True),
        ("diverged", 3, True),
        ("diverged", 2, False),
    ]:
        run.write_rows([row(epoch) for epoch in range(1, rows + 1)])
        run.write_status(state, 3, 3, 1.0, "reason")
        assert run.ended() == ended, (state, rows)


def test_a_flipped_bit_in_an_ended_run_is_noticed_and_restored_from_the_checkpoint(tmp_path, fake_mnist):
    config = make_config(tmp_path)
    run = execute(config)
    before = {name: (run.folder / name).read_bytes() for name in ("metrics.csv", "config.yaml", "status.json")}
    rows = run.rows()
    for name, content in before.items():
        for place in range(0, len(content), max(1, len(content) // 15)):
            (run.folder / name).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            assert not run.ended(), (name, place)
        (run.folder / name).write_bytes(content)
    assert run.ended()
    (run.folder / "metrics.csv").write_bytes(before["metrics.csv"].replace(b"0.", b"\xff.", 1))
    assert execute(config).ended() and run.rows() == rows
    assert "metrics.csv damaged; restored from the checkpoint" in (run.folder / "log.txt").read_text()
    (run.folder / "metrics.csv").write_bytes(before["metrics.csv"][:-9])
    for checkpoint in run.folder.glob("checkpoint*"):
        checkpoint.unlink()
    with pytest.raises(RunError, match=r"metrics\.csv is damaged and there is no checkpoint"):
        execute(config)


@pytest.mark.parametrize("content", ["", "{", '{"state": "finished", "epo', "\0" * 100])
def test_an_unreadable_status_is_none(run, content):
    run.append(row(1))
    (run.folder / "status.json").write_text(content)
    assert run.status() == {} and not run.ended()


def test_status_keeps_what_was_known_when_a_run_fails(run):
    run.write_status("running", 2, 3, 12.5)
    run.fail("OSError: no space")
    status = run.status()
    assert (status["state"], status["reason"], status["epoch"]) == ("failed", "OSError: no space", 2)
    assert status["environment"] == {"device": "cpu"}


def test_a_change_of_environment_is_noted_with_its_epoch(run):
    run.write_status("running", 2, 3, 12.5)
    started = run.status()["started"]
    again = Run(run.folder)
    again.begin({"epochs": 3}, {"device": "H100"}, "0123456789ab")
    again.write_status("running", 2, 3, 12.5)
    assert again.status()["environment_changes"] == [{"epoch": 2, "device": "H100"}]
    assert again.status()["environment"] == {"device": "H100"} and again.status()["started"] == started
    assert "H100" in (run.folder / "log.txt").read_text()
    once_more = Run(run.folder)
    once_more.begin({"epochs": 3}, {"device": "H100"}, "0123456789ab")
    once_more.write_status("running", 3, 3, 12.5)
    assert len(once_more.status()["environment_changes"]) == 1


def test_leftovers_of_a_kill_are_swept_at_the_next_start(run):
    (run.folder / ".status.json.abc.tmp").write_text("half")
    Run(run.folder).begin({"epochs": 3}, {"device": "cpu"}, "0123456789ab")
    assert not list(run.folder.glob(".*.tmp"))


# One writer

HOLD = "from runs.run import Run; lock = Run({!r}).locked(); print('held', flush=True); input()"


@pytest.fixture
def holder(run):
    """Another process that holds the lock of the run."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(str(run.folder))],
        cwd=ROOT,
        env=clean_environment(ROOT),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_told_that_the_run_is_busy_and_leaves_it_alone(run, holder):
    before = {path.name: path.stat().st_mtime_ns for path in run.folder.iterdir()}
    with pytest.raises(RunBusy) as error:
        run.locked()
    assert str(run.folder) in str(error.value) and "\n" not in str(error.value)
    assert {path.name: path.stat().st_mtime_ns for path in run.folder.iterdir()} == before
    run.rows(), run.status(), run.ended()  # reading needs no lock


def test_the_lock_of_a_killed_process_is_free(run, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with run.locked():
        pass


def test_the_lock_is_free_after_its_block_whatever_happens_in_it(run):
    for error in (None, KeyError("x"), KeyboardInterrupt()):
        try:
            with run.locked():
                with pytest.raises(RunBusy):
                    run.locked()
                if error:
                    raise error
        except (KeyError, KeyboardInterrupt) as raised:
            kept = raised  # a kept traceback must not keep the lock
            assert kept is error
            with run.locked():
                pass
    with run.locked():
        pass


# Atomic writes


class Faults:
    """Makes the N-th call among the os functions that writing uses raise an error."""

    NAMES = ("open", "fdopen", "write", "fsync", "fdatasync", "chmod", "fchmod", "rename", "replace", "link")

    def __init__(self, monkeypatch, at: int, error: BaseException):
        self.calls, self.at, self.error, self.fired = 0, at, error, None
        for name in self.NAMES:
            monkeypatch.setattr(os, name, self._counting(name, getattr(os, name)))
        monkeypatch.setattr(tempfile, "mkstemp", self._counting("mkstemp", tempfile.mkstemp))

    def _counting(self, name, function):
        def call(*arguments, **options):
            self.strike(name)
            result = function(*arguments, **options)
            return _File(result, self) if name == "fdopen" else result

        return call

    def strike(self, name: str) -> None:
        self.calls += 1
        if self.calls == self.at:
            self.fired = name
            raise self.error


class _File:
    """A file whose write, flush and close count too; what was written before a failure may be partly there."""

    def __init__(self, file, faults):
        self.file, self.faults = file, faults

    def write(self, content):
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        self.faults.strike("write")
        return self.file.write(content[len(content) // 2 :])

    def flush(self):
        self.faults.strike("flush")
        self.file.flush()

    def fileno(self):
        return self.file.fileno()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


ERRORS = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EIO, "Input/output error"),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize("error", ERRORS, ids=["ENOSPC", "EIO", "ctrl-c"])
@pytest.mark.parametrize("old", [b"the old content", None], ids=["over-old", "new"])
def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path, error, old):
    fired = []
    for at in itertools.count(1):
        folder = tmp_path / str(at)
        folder.mkdir()
        path = folder / "file"
        if old is not None:
            path.write_bytes(old)
        with pytest.MonkeyPatch.context() as patches:
            faults = Faults(patches, at, error)
            try:
                write_atomically(path, b"the new content" * 1000)
                break
            except type(error) as raised:
                assert raised is error
        renamed = "replace" in fired
        fired.append(faults.fired)
        # Only the folder's fsync comes after the rename; then the new content is whole.
        assert (path.read_bytes() if path.exists() else None) == (b"the new content" * 1000 if renamed else old), fired
        assert [p.name for p in folder.iterdir()] == (["file"] if path.exists() else []), fired
    assert faults.fired is None and path.read_bytes() == b"the new content" * 1000
    assert {"fsync", "replace", "write"} <= set(fired)
    assert fired.index("fsync") < fired.index("replace") < len(fired) - 1  # content first, then name, then folder


def test_a_full_disk_leaves_the_old_content(tmp_path):
    """A real failure of the kernel's: the process may not write files of more than 10,000 bytes."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_atomically(path, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_loses_no_row(run):
    for one in ODD[:2]:
        run.append(one)
    path = run.folder / "metrics.csv"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            run.append(ODD[2])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.stat().st_size > 0
    run.write_rows(ODD[:2])
    run.append(ODD[2])
    assert same(run.rows(), ODD[:3])


# Independence


def test_a_run_needs_neither_hydra_nor_wandb_and_is_named_alike_in_every_process(tmp_path, fake_mnist):
    config = make_config(tmp_path)
    code = f"""if True:
        import sys
        for name in ("hydra", "omegaconf", "wandb"):
            sys.modules[name] = None  # importing it raises ImportError
        from data import mnist
        from runs.identity import *
        from runs.schema import *
        from training.execute import execute
        mnist.FILES.clear()
        run = execute({config!r})
        print(run.name, run.status()["state"])
    """
    environment = clean_environment(tmp_path, PYTHONHASHSEED="1")  # Python's own hash() would differ
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert child.stdout == f"{run_name(asdict(config))} finished\n", child.stderr
