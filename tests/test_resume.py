"""A run that was killed, stopped or crashed at any moment ends as if nothing had happened."""

import itertools
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from data.tensors import TensorDataset
from runs import cli
from runs.interrupt import Interrupted
from runs.run import Run
from training import checkpoint
from training.execute import execute
from training.trainer import Trainer

from .helpers import ROOT, assert_same, clean_environment, composed, make_config, outcome, run_of, typed

STEPS = 4  # an epoch of 100 images in batches of 32
SMALL = {"dataset.subset": 100, "epochs": 2, "model.width": 8}


class Killed(BaseException):
    """The process is gone; nothing is caught and nothing more is written."""


@pytest.fixture
def undisturbed(tmp_path, fake_mnist):
    """The outcome of a run of these settings that nothing interrupted."""

    def run(optimizer="powersgdm", **changes) -> dict:
        config = make_config(tmp_path / "undisturbed", optimizer, **{"data_dir": str(fake_mnist)} | SMALL | changes)
        return outcome(execute(config))

    return run


def at_step(patches, wanted, action) -> None:
    """Call action after the steps of training (counted from 1, over all epochs) that are in `wanted`."""
    step, count, wanted = Trainer.train_step, itertools.count(1), set(wanted)

    def stepping(self, inputs, labels):
        step(self, inputs, labels)
        if next(count) in wanted:
            action()

    patches.setattr(Trainer, "train_step", stepping)


def stop(number=signal.SIGTERM):
    return lambda: signal.raise_signal(number)


def kill():
    raise Killed


def interrupted(config, *moments) -> Run:
    """Execute the config again and again, each time with the next of the moments; then to its end."""
    for moment in moments:
        with pytest.MonkeyPatch.context() as patches:
            moment(patches)
            with pytest.raises((Interrupted, Killed)):
                execute(config)
        assert not run_of(config).ended()
    run = execute(config)
    assert run.ended()
    return run


# Stops


@pytest.mark.parametrize("optimizer", ["powersgdm", "adam"])
def test_a_run_stopped_at_any_step_goes_on_as_if_it_had_not_been(tmp_path, undisturbed, optimizer):
    expected = undisturbed(optimizer)
    for step in range(1, 2 * STEPS + 1):
        config = make_config(tmp_path / str(step), optimizer, data_dir=str(tmp_path / "mnist"), **SMALL)
        stopped_at = lambda patches, step=step: at_step(patches, [step], stop())  # noqa: E731
        if step == 2 * STEPS:
            # Nothing is left to do but the epoch's evaluation.
            with pytest.MonkeyPatch.context() as patches:
                stopped_at(patches)
                with pytest.raises(Interrupted):
                    execute(config)
            state = checkpoint.load(run_of(config))
            assert (state["epoch"], state["step"]) == (1, STEPS)
        assert_same(outcome(interrupted(config, *[stopped_at] * (step < 2 * STEPS))), expected)


@pytest.mark.parametrize("steps", [(1, 1, 1), (2, 1), (3, 4, 1), (1,) * 7])
def test_several_stops_also_within_one_epoch(tmp_path, undisturbed, steps):
    """Each number: after how many further steps."""
    expected = undisturbed()
    config = make_config(tmp_path, **SMALL)
    moments = [lambda patches, step=step: at_step(patches, [step], stop()) for step in steps]
    assert_same(outcome(interrupted(config, *moments)), expected)


def test_evaluations_within_an_epoch_change_nothing_and_outlive_a_stop(tmp_path, undisturbed):
    changes = {"evaluations": 3}
    expected, plain = undisturbed(**changes), undisturbed()
    for row, usual in zip(expected["rows"], plain["rows"], strict=True):
        within = {f"{name}_acc_{number}" for name in ("train", "test") for number in (1, 2)}
        assert set(row) - set(usual) == within and all(row[key] == value for key, value in usual.items())
        assert row["train_acc_1"] != row["train_acc"] != row["train_acc_2"]
    for step in range(1, STEPS + 1):
        config = make_config(tmp_path / str(step), data_dir=str(tmp_path / "mnist"), **SMALL, **changes)
        stopped_at = lambda patches, step=step: at_step(patches, [step], stop())  # noqa: E731
        assert_same(outcome(interrupted(config, *[stopped_at] * 2)), expected)


def test_a_stop_at_the_end_of_an_epoch(tmp_path, undisturbed):
    expected = undisturbed()
    config = make_config(tmp_path, **SMALL)
    with pytest.raises(Interrupted):
        execute(config, lambda row: signal.raise_signal(signal.SIGTERM))
    state = checkpoint.load(run_of(config))
    assert (state["epoch"], state["step"]) == (1, 0) and len(run_of(config).rows()) == 1
    assert_same(outcome(execute(config)), expected)


def test_a_stop_during_the_evaluation(tmp_path, undisturbed):
    expected = undisturbed()
    batches = TensorDataset.batches

    def stopping(self, batch_size):
        signal.raise_signal(signal.SIGINT)
        return batches(self, batch_size)

    moment = lambda patches: patches.setattr(TensorDataset, "batches", stopping)  # noqa: E731
    assert_same(outcome(interrupted(make_config(tmp_path, **SMALL), moment)), expected)


def test_a_stop_in_the_last_epoch_s_evaluation_finishes_the_run(tmp_path, fake_mnist):
    """All that is left to do is to write it down."""
    config = make_config(tmp_path, **SMALL)
    execute(config, lambda row: signal.raise_signal(signal.SIGTERM) if row["epoch"] == 2 else None)
    assert run_of(config).status()["state"] == "finished"


def test_a_stop_after_the_step_that_ends_the_epoch_does_not_train_it_twice(tmp_path, undisturbed):
    expected = undisturbed(epochs=1)
    config = make_config(tmp_path, **SMALL | {"epochs": 1})
    with pytest.MonkeyPatch.context() as patches:
        at_step(patches, [STEPS], stop())
        with pytest.raises(Interrupted):
            execute(config)
        patches.setattr(Trainer, "train_step", lambda *_: pytest.fail("all steps were done"))
        assert_same(outcome(execute(config)), expected)


def test_the_handlers_of_signals_are_given_back(tmp_path, fake_mnist):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    config = make_config(tmp_path, **SMALL)
    interrupted(config, lambda patches: at_step(patches, [2], stop(signal.SIGINT)))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_ctrl_c_stops_at_once_and_loses_nothing_but_the_last_steps(tmp_path, undisturbed):
    expected = undisturbed()
    config = make_config(tmp_path, **SMALL)

    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patches:
        at_step(patches, [STEPS + 2], twice)
        with pytest.raises(KeyboardInterrupt):
            execute(config)
    assert checkpoint.load(run_of(config))["epoch"] == 1
    assert_same(outcome(execute(config)), expected)


# Kills


def test_a_run_killed_at_any_step_goes_on_from_its_last_checkpoint(tmp_path, undisturbed):
    expected = undisturbed()
    for step in range(1, 2 * STEPS + 1):
        changes = {"data_dir": str(tmp_path / "mnist"), "checkpoint_seconds": 0.0} | SMALL
        config = make_config(tmp_path / str(step), **changes)
        run = interrupted(config, lambda patches, step=step: at_step(patches, [step], kill))
        assert_same(outcome(run), expected)


def test_a_run_killed_at_any_write_goes_on(tmp_path, undisturbed):
    """Every fsync and every rename of a run in turn, once before it and once after it."""
    expected = undisturbed()
    killed = []
    for at, after in ((number // 2, bool(number % 2)) for number in itertools.count(2)):
        config = make_config(tmp_path / f"{at}{after}", data_dir=str(tmp_path / "mnist"), **SMALL)
        with pytest.MonkeyPatch.context() as patches:
            fired = kill_at_write(patches, at, after)
            try:
                execute(config)
                break
            except Killed:
                killed.append(fired[0])
        assert_same(outcome(execute(config)), expected)
    assert not fired and len(killed) > 30 and {"fsync", "replace"} <= set(killed)


def kill_at_write(patches, at: int, after: bool) -> list[str]:
    """Raise Killed at the at-th write and at all later ones, as nothing more happens in a killed process."""
    fired, calls = [], itertools.count(1)

    def dying(name, function):
        def call(*arguments, **options):
            number = next(calls)
            if number == at and after:
                function(*arguments, **options)
            if number >= at:
                fired.append(name)
                raise Killed
            return function(*arguments, **options)

        return call

    for name in ("fsync", "replace"):
        patches.setattr(os, name, dying(name, getattr(os, name)))
    return fired


def test_a_run_killed_in_its_resumption_goes_on(tmp_path, undisturbed):
    expected = undisturbed()
    config = make_config(tmp_path, **SMALL | {"checkpoint_seconds": 0.0})
    moments = [lambda patches, at=at: kill_at_write(patches, at, False) for at in (25, 1, 2, 3, 4, 5, 6, 7)]
    assert_same(outcome(interrupted(config, lambda patches: at_step(patches, [3], kill), *moments)), expected)


def test_a_run_with_a_torn_checkpoint_goes_on_from_the_one_before(tmp_path, undisturbed):
    expected = undisturbed()
    config = make_config(tmp_path, **SMALL)
    newest = run_of(config).folder / "checkpoint.pt"
    with pytest.raises(Interrupted):
        execute(config, lambda row: signal.raise_signal(signal.SIGTERM))
    interrupted_again = lambda patches: at_step(patches, [1], stop())  # noqa: E731
    with pytest.MonkeyPatch.context() as patches:
        interrupted_again(patches)
        with pytest.raises(Interrupted):
            execute(config)
    newest.write_bytes(newest.read_bytes()[:-10])
    assert_same(outcome(execute(config)), expected)


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path, undisturbed):
    expected = undisturbed()
    config = make_config(tmp_path, **SMALL)
    full = OSError(28, "No space left on device")

    def fill(patches):
        fsync, count = os.fsync, itertools.count(1)

        def failing(handle):
            if next(count) > 12:
                raise full
            fsync(handle)

        patches.setattr(os, "fsync", failing)

    with pytest.MonkeyPatch.context() as patches:
        fill(patches)
        with pytest.raises(OSError, match="No space left"):
            execute(config)
    assert not run_of(config).ended()
    assert_same(outcome(execute(config)), expected)


# Negative controls: what the above would catch


def spoiled(tmp_path, expected, spoil) -> None:
    """Stop a run, spoil something, resume: the outcome must differ."""
    config = make_config(tmp_path / "spoiled", data_dir=str(tmp_path / "mnist"), **SMALL)
    with pytest.MonkeyPatch.context() as patches:
        at_step(patches, [STEPS + 2], stop())
        with pytest.raises(Interrupted):
            execute(config)
    with pytest.MonkeyPatch.context() as patches:
        spoil(patches)
        run = execute(config)
    with pytest.raises(AssertionError):
        assert_same(outcome(run), expected)


def test_another_order_of_the_rest_of_the_data_is_noticed(tmp_path, undisturbed):
    epoch = TensorDataset.epoch

    def reversed_rest(self, *arguments):
        return reversed(list(epoch(self, *arguments)))

    spoiled(tmp_path, undisturbed(), lambda patches: patches.setattr(TensorDataset, "epoch", reversed_rest))


def test_beginning_the_epoch_again_is_noticed(tmp_path, undisturbed):
    epoch = TensorDataset.epoch

    def from_the_start(self, seed, number, batch_size, start=0):
        return itertools.islice(epoch(self, seed, number, batch_size), STEPS - start)

    spoiled(tmp_path, undisturbed(), lambda patches: patches.setattr(TensorDataset, "epoch", from_the_start))


@pytest.mark.parametrize("part", ["optimizer", "model"])
def test_a_lost_part_of_the_state_is_noticed(tmp_path, undisturbed, part):
    load = checkpoint.load

    def without(run, restore):
        def spoiled(state):
            if part == "optimizer":
                state["optimizer"]["state"] = {}
            else:
                bias = state["model"]["layers.0.bias"]
                bias[0] = torch.nextafter(bias[0], torch.tensor(9.0))
            restore(state)

        return load(run, spoiled)

    spoiled(tmp_path, undisturbed(), lambda patches: patches.setattr(checkpoint, "load", without))


# The program


OVERRIDES = (
    "optimizer=powersgdm", "optimizer.lr=1e-3", "model.depth=4", "model.width=32", "tier=smoke", "dataset.subset=2000",
    "checkpoint_seconds=0.05", "wandb.mode=disabled", "device=cpu", "progress=false",
)  # fmt: skip


class Program:
    """`python train.py` with the overrides, in a process of its own."""

    def __init__(self, tmp_path, real_mnist, epochs: int):
        places = (f"results={tmp_path}/results", f"data_dir={real_mnist}", f"epochs={epochs}")
        self.overrides = [*OVERRIDES, *places]
        self.environment = clean_environment(tmp_path)
        self.run = Run.of(cli.plain(composed(*self.overrides)))
        self.newest = self.run.folder / "checkpoint.pt"

    def start(self) -> subprocess.Popen:
        self.before = self._saved()
        return subprocess.Popen(
            [sys.executable, "train.py", *self.overrides],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for_progress(self, process) -> None:
        """Until a checkpoint has been written that was not there at the start."""
        while process.poll() is None and self._saved() == self.before:
            time.sleep(0.002)

    def _saved(self):
        try:
            return self.newest.stat().st_ino, self.newest.stat().st_mtime_ns
        except FileNotFoundError:  # between two renames, or not yet
            return getattr(self, "before", None)

    def finish(self) -> str:
        done = typed("train.py", *self.overrides)
        assert done.returncode == 0, done.stderr
        assert self.run.name in done.stdout and "finished" in done.stdout
        return done.stdout

    def expected(self, tmp_path) -> dict:
        """The outcome of the same run, undisturbed and in this process."""
        elsewhere = [f"runs={tmp_path}/elsewhere" if key.startswith("results=") else key for key in self.overrides]
        return outcome(execute(cli.typed(composed(*elsewhere))))


@pytest.mark.timeout(120)  # starts programs
def test_killed_stopped_and_interrupted_the_program_ends_as_if_it_had_not_been(tmp_path, real_mnist):
    program, rng = Program(tmp_path, real_mnist, epochs=20), random.Random(0)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        process = program.start()
        program.wait_for_progress(process)
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        if number == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
        else:
            assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}[number], errors
            last = errors.strip().splitlines()[-1]
            assert number.name in last and "rerun the same command to resume" in last
            assert "Traceback" not in errors
        assert program.run.status()["state"] == "running"
    program.finish()
    assert_same(outcome(program.run), program.expected(tmp_path))


@pytest.mark.slow
def test_killed_at_20_random_moments_the_program_ends_as_if_it_had_not_been(tmp_path, real_mnist):
    """Half of the kills fall anywhere, mostly into starting up; half of them into training."""
    program, rng, start_up = Program(tmp_path, real_mnist, epochs=200), random.Random(1), 0.0
    for kill in range(20):
        process, started = program.start(), time.monotonic()
        if kill % 2:
            time.sleep(rng.uniform(0, 1.2 * start_up))
        else:
            program.wait_for_progress(process)
            start_up = time.monotonic() - started
            time.sleep(rng.uniform(0, 0.2))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the run was over too early"
    assert 0 < len(program.run.rows()) < 200
    program.finish()
    assert_same(outcome(program.run), program.expected(tmp_path))


def test_asking_the_program_for_a_finished_run_prints_the_same_line_again(tmp_path, real_mnist):
    program = Program(tmp_path, real_mnist, epochs=1)
    execute(cli.typed(composed(*program.overrides)))
    before = {path: path.stat().st_mtime_ns for path in program.run.folder.iterdir()}
    line = program.finish()
    assert re.search(r"finished \(all epochs\), test accuracy best 0\.\d{4}", line)
    assert {path: path.stat().st_mtime_ns for path in program.run.folder.iterdir()} == before
