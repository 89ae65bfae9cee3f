"""A run's checkpoints: the latest two, each complete or absent, with nothing but data."""

import copy
import itertools
import os
import random
import signal
import threading
from pathlib import Path

import pytest
import torch

from runs.run import Run, RunError
from training import checkpoint
from training.execute import execute

from .helpers import assert_same, make_config, outcome, run_of, start

NEWEST, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


def state(number: int) -> dict:
    torch.manual_seed(number)
    momentum = {0: {"momentum_buffer": torch.randn(3, 4)}, 1: {"step": torch.tensor(5.0), "momentum_buffer": None}}
    return {
        "epoch": number,
        "model": {"layers.0.weight": torch.randn(30, 20), "layers.0.bias": torch.full((30,), float("nan"))},
        "optimizer": {"state": momentum, "param_groups": [{"lr": 0.1, "params": [0, 1], "maximize": False}]},
        "history": [{"epoch": 1, "loss": float("inf"), "powered_norm1": None}],
        "generator": torch.get_rng_state(),
    }


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    return run


@pytest.fixture
def saved(run) -> Run:
    """A run with states 1 and 2 saved."""
    checkpoint.save(run, state(1))
    checkpoint.save(run, state(2))
    return run


def generation(run: Run) -> int:
    """Which state is loaded, after a look at all of it."""
    loaded = checkpoint.load(run)
    assert_same(loaded, state(loaded["epoch"]))
    return loaded["epoch"]


def names(run: Run) -> set[str]:
    return {path.name for path in run.folder.iterdir()} - {"log.txt"}


def test_a_new_run_has_no_state(run):
    assert checkpoint.load(run) is None


def test_the_newest_state_comes_back_bit_for_bit(run):
    for number in range(1, 5):
        checkpoint.save(run, state(number))
        assert generation(run) == number
    assert names(run) == {NEWEST, PREVIOUS}


def test_the_generation_before_is_there_when_the_newest_is_gone(saved):
    (saved.folder / NEWEST).unlink()
    assert generation(saved) == 1


def damage(path: Path, content: bytes, position: int, bit: int) -> None:
    broken = bytearray(content)
    broken[position] ^= 1 << bit
    path.write_bytes(broken)


def test_no_flipped_bit_is_ever_loaded(saved):
    """A flip in unused bytes may leave the state whole; otherwise the one before is taken, and the log says so."""
    path = saved.folder / NEWEST
    content, rng = path.read_bytes(), random.Random(0)
    fell_back = 0
    for _ in range(200):
        damage(path, content, rng.randrange(len(content)), rng.randrange(8))
        fell_back += generation(saved) == 1
    assert fell_back > 100
    assert (saved.folder / "log.txt").read_text().count(f"{NEWEST} is damaged") == fell_back


def test_every_bit_of_the_data_is_guarded(saved):
    path = saved.folder / NEWEST
    content = path.read_bytes()
    weights = content.index(state(2)["model"]["layers.0.weight"].numpy().tobytes())
    for position in range(weights, weights + 2400, 24):
        damage(path, content, position, position % 8)
        assert generation(saved) == 1, position


def test_every_bit_that_says_how_to_read_the_archive_is_survived(saved):
    """Sizes, offsets, compression, encryption, attributes: there a flip changes how the rest is read.

    An entry that the attributes call a folder is given by torch as memory never written to.
    """
    path = saved.folder / NEWEST
    content = path.read_bytes()
    name = b"/data/0"
    header, entry = content.index(name), content.rindex(name)
    places = [
        range(content.rindex(b"PK\x03\x04", 0, header), header + len(name) + 8),
        range(content.rindex(b"PK\x01\x02", 0, entry), entry + len(name)),
        range(content.index(b"PK\x05\x06"), len(content)),
    ]
    fell_back, other = 0, []
    for position, bit in itertools.product(itertools.chain(*places), range(8)):
        damage(path, content, position, bit)
        try:
            fell_back += generation(saved) == 1
        except Exception as error:
            other.append(f"byte {position} bit {bit}: {type(error).__name__} {error}")
    assert not other
    assert fell_back > 500


def test_a_truncated_newest_falls_back(saved):
    path = saved.folder / NEWEST
    content = path.read_bytes()
    for length in {0, 1, 10, 100, 1000, len(content) // 2, len(content) - 100, len(content) - 1}:
        path.write_bytes(content[:length])
        assert generation(saved) == 1, length


@pytest.mark.parametrize("junk", [b"", b"\0" * 5000, b"not a checkpoint", b"PK\x05\x06" + b"\0" * 18], ids=len)
def test_other_content_falls_back(saved, junk):
    (saved.folder / NEWEST).write_bytes(junk)
    assert generation(saved) == 1


def test_after_falling_back_the_next_save_leaves_an_intact_generation_behind_it(saved):
    """The damaged latest checkpoint must not become the previous one, or the next damage would leave none."""
    (saved.folder / NEWEST).write_bytes(b"damaged")
    assert generation(saved) == 1
    checkpoint.save(saved, state(3))
    (saved.folder / NEWEST).write_bytes(b"damaged too")
    assert generation(saved) in (1, 3)


def test_two_damaged_generations_end_in_one_line_that_says_what_to_do(saved):
    for name in (NEWEST, PREVIOUS):
        content = (saved.folder / name).read_bytes()
        (saved.folder / name).write_bytes(content[:-1])
    before = {name: (saved.folder / name).read_bytes() for name in (NEWEST, PREVIOUS)}
    with pytest.raises(RunError) as error:
        checkpoint.load(saved)
    text = str(error.value)
    assert "\n" not in text and str(saved.folder / NEWEST) in text and f"move {saved.folder} away" in text
    assert {name: (saved.folder / name).read_bytes() for name in (NEWEST, PREVIOUS)} == before


def test_the_only_generation_damaged_is_an_error_and_not_a_fresh_start(run):
    checkpoint.save(run, state(1))
    (run.folder / NEWEST).write_bytes(b"damaged")
    with pytest.raises(RunError):
        checkpoint.load(run)


def test_a_state_is_on_the_disk_before_it_takes_its_name_and_the_name_before_the_save_ends(saved, monkeypatch):
    calls = []

    def noting(name, function):
        def call(what, *to):
            calls.append((name, os.stat(what).st_ino, *to))
            function(what, *to)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, noting(name, getattr(os, name)))
    checkpoint.save(saved, state(3))
    newest = (saved.folder / NEWEST).stat().st_ino
    named = calls.index(("replace", newest, saved.folder / NEWEST))
    assert ("fsync", newest) in calls[:named]
    assert ("fsync", saved.folder.stat().st_ino) in calls[named:]


class Crash(BaseException):
    """The process is gone: no handler gets to run."""


@pytest.mark.parametrize("error", [Crash(), OSError(28, "No space left on device")], ids=["crash", "full-disk"])
def test_a_save_that_fails_anywhere_loses_nothing(tmp_path, error):
    """In particular between the two renames, when there is no newest one."""
    moments = []
    for at in itertools.count(1):
        run = Run(tmp_path / str(at))
        run.folder.mkdir()
        checkpoint.save(run, state(1))
        checkpoint.save(run, state(2))
        with pytest.MonkeyPatch.context() as patches:
            fired = fail_at(patches, at, error)
            if error_of(lambda run=run: checkpoint.save(run, state(3))) is None:
                break
        moments.append((fired[-1], generation(run)))
        assert not list(run.folder.glob(".*.tmp")) or isinstance(error, Crash)
        # And it goes on from there, with two intact generations and nothing else.
        checkpoint.save(run, state(4))
        assert generation(run) == 4
        assert names(run) == {NEWEST, PREVIOUS}
        (run.folder / NEWEST).unlink()
        assert generation(run) in (1, 2, 3)
    assert fired == [] and generation(run) == 3
    assert [name for name, _ in moments].count("replace") >= 2
    assert moments[0][1] == 2 and moments[-1][1] == 3


def fail_at(patches, at: int, error: BaseException) -> list[str]:
    """Make the at-th fsync, rename or replace raise; the list tells which it was."""
    fired, calls = [], itertools.count(1)

    def failing(name, function):
        def call(*arguments, **options):
            if next(calls) == at:
                fired.append(name)
                raise error
            return function(*arguments, **options)

        return call

    for name in ("fsync", "replace", "rename"):
        patches.setattr(os, name, failing(name, getattr(os, name)))
    return fired


def error_of(call) -> BaseException | None:
    try:
        call()
    except (Crash, OSError) as error:
        return error
    return None


class Evil:
    """Unpickling it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_holds_data_and_is_never_executed(saved):
    mark = saved.folder / "executed"
    checkpoint.save(saved, state(3) | {"evil": Evil(mark)})
    assert generation(saved) == 2
    assert not mark.exists()
    torch.load(saved.folder / "checkpoint.damaged", weights_only=False)  # where what cannot be read is put
    assert mark.exists()  # it would have been


@pytest.mark.parametrize(("keep", "left"), [("all", 2), ("weights", 1), ("none", 0)])
def test_what_stays_of_an_ended_run_s_checkpoints(keep, left, tmp_path, fake_mnist):
    run = execute(make_config(tmp_path, keep=keep))
    found = sorted(run.folder.glob("checkpoint*"))
    assert len(found) == left and run.ended() and run.status()["state"] == "finished"
    if left:
        state, damaged = checkpoint.intact(run)
        assert not damaged and len(state["history"]) == 2 and ("optimizer" in state) == (keep == "all")
    assert execute(make_config(tmp_path, keep=keep)).ended()  # asking again costs nothing


# In a thread, beside the training

EPOCHS = 5


def test_training_goes_on_while_a_checkpoint_is_written_that_holds_what_was_then(tmp_path, fake_mnist, monkeypatch):
    """The first state is held back until two more epochs are trained. The one after that is the last."""
    trained, given, written, save = threading.Event(), [], [], checkpoint.save

    def held(run, state):
        assert trained.wait(30)
        written.append(state)
        save(run, state)

    begin = checkpoint.Writer.save
    monkeypatch.setattr(checkpoint, "save", held)
    monkeypatch.setattr(checkpoint.Writer, "save", lambda *to: (given.append(copy.deepcopy(to[1])), begin(*to)))
    config, rows = make_config(tmp_path, epochs=EPOCHS), []

    def note(row: dict) -> None:
        rows.append(row)
        if len(rows) == 3:
            trained.set()

    run = execute(config, note)
    assert [state["epoch"] for state in written] == [1, EPOCHS]
    assert_same(given, written)
    assert run.ended() and len(run.rows()) == EPOCHS


def test_a_checkpoint_is_written_at_most_every_so_many_seconds(tmp_path, fake_mnist, monkeypatch):
    saved = []
    monkeypatch.setattr(checkpoint.Writer, "save", lambda self, state: saved.append((state["epoch"], state["step"])))
    for seconds, expected in ((60.0, {(1, 0), (EPOCHS, 0)}), (0.0, {(epoch, 0) for epoch in range(1, EPOCHS + 1)})):
        saved.clear()
        execute(make_config(tmp_path / str(seconds), epochs=EPOCHS, data_dir=str(fake_mnist),
                            checkpoint_seconds=seconds))  # fmt: skip
        assert {place for place in saved if place[1] == 0} == expected
    assert len(saved) > EPOCHS  # 0 is after every step


def test_a_write_that_fails_beside_the_training_ends_it_in_the_same_line_and_loses_nothing(tmp_path, fake_mnist):
    config = make_config(tmp_path, epochs=200)
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(checkpoint, "write_atomically", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(OSError, match=f"No space left, in the run {run_of(config).folder}; fix this"):
            execute(config)
    run = run_of(config)
    assert 1 <= len(run.rows()) < 200 and run.status()["state"] == "failed" and not run.busy()
    assert execute(make_config(tmp_path, epochs=200)).ended()


KILL = """
import os, signal, threading, time
from pathlib import Path
from training import checkpoint
calls = []
def dying(name, function):
    def call(what, *to):
        if threading.current_thread() is not threading.main_thread():
            calls.append(name)
            rows = Path("{metrics}")
            while len(calls) == {at} and (not rows.exists() or rows.read_text().count("\\n") < 4):
                time.sleep(0.001)
            if len(calls) == {at}:
                os.kill(os.getpid(), signal.SIGKILL)
        return function(what, *to)
    return call
os.fsync, os.replace = dying("fsync", os.fsync), dying("replace", os.replace)
"""


@pytest.mark.timeout(120)  # starts programs
@pytest.mark.parametrize("at", [1, *(pytest.param(at, marks=pytest.mark.slow) for at in range(2, 6))])
def test_killed_while_the_thread_writes_and_training_is_ahead_a_run_ends_in_the_same_bits(tmp_path, fake_mnist, at):
    """Before each of its fsyncs and renames, when the rows of two further epochs are on the disk."""
    config = make_config(tmp_path / "killed", epochs=EPOCHS, data_dir=str(fake_mnist))
    folder = run_of(config).folder
    before = KILL.format(metrics=folder / "metrics.csv", at=at)
    killed = start(tmp_path / "killed", before=before, epochs=EPOCHS, data_dir=str(fake_mnist))
    _, errors = killed.communicate(timeout=100)
    assert killed.returncode == -signal.SIGKILL, errors
    ahead = Run(folder).rows()
    assert len(ahead) >= 3 and Run(folder).status()["state"] == "running"
    state, damaged = checkpoint.intact(Run(folder))
    assert not damaged and (state is None or state["epoch"] == 1)
    undisturbed = execute(make_config(tmp_path / "undisturbed", epochs=EPOCHS, data_dir=str(fake_mnist)))
    assert_same(outcome(execute(config)), outcome(undisturbed))


def test_a_checkpoint_whose_thread_finds_no_memory_raises_and_nobody_waits_for_ever(tmp_path, monkeypatch):
    """threading.Thread.start, which an executor calls at the first checkpoint, waits forever for such a thread."""

    def no_memory(*_):
        raise MemoryError

    def no_thread(*_):
        raise RuntimeError("no thread")

    monkeypatch.setattr(checkpoint, "save", no_memory)
    monkeypatch.setattr(threading.Thread, "start", lambda self: pytest.fail("a thread that may be waited for"))
    run = run_of(make_config(tmp_path))
    with checkpoint.Writer(run) as writer:
        writer.save({"epoch": 1})
        with pytest.raises(MemoryError):
            writer.wait()
        assert writer.idle
    monkeypatch.setattr(checkpoint._thread, "start_new_thread", no_thread)
    with pytest.raises(OSError, match="checkpoints cannot be written: no thread"), checkpoint.Writer(run):
        pass


@pytest.mark.parametrize("saves", [0, 1])
def test_a_checkpoint_thread_that_ends_without_memory_raises_and_nobody_waits_for_ever(tmp_path, monkeypatch, saves):
    """MemoryError where the interpreter enters a function: nothing of the thread's own code catches it."""
    run, errors = run_of(make_config(tmp_path)), []

    class Jobs(checkpoint.SimpleQueue):
        def get(self):
            if saves and not errors:
                errors.append(OSError("a failed write, whose traceback has the thread's frame"))
                return super().get()
            raise MemoryError

    def fails(*_):
        raise errors[0]

    monkeypatch.setattr("sys.unraisablehook", lambda _: None)
    monkeypatch.setattr(checkpoint, "save", fails)
    monkeypatch.setattr(checkpoint, "SimpleQueue", Jobs)
    with checkpoint.Writer(run) as writer:
        if saves:
            writer.save({"epoch": 1})
            assert writer.writing.finished() is errors[0]
            first = writer.writing  # as a caller that looks at the error later
            with pytest.raises(OSError, match="a failed write"):
                writer.wait()
            assert first.error
        writer.save({"epoch": 2})
        with pytest.raises(MemoryError, match="found no memory"):
            writer.wait()
        assert writer.idle
