"""What a sweep does about crashes, dead workers, runs of other processes, and signals."""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runs import cli
from runs.interrupt import Interrupted
from runs.run import Run
from sweeps.engines import Local
from sweeps.place import Place
from sweeps.worker import Stop

from .helpers import ROOT, clean_environment, composed, typed

# sweep.py in a process whose calls of train are counted in a file, a line each, and may be made to fail.
PROGRAM = """
import runpy, sys, training.loop
starts, failing = sys.argv.pop(1), int(sys.argv.pop(1))
real = training.loop.train
def train(config, run, *rest):
    with open(starts, "a+") as file:
        file.write(run.name + "\\n")
        file.seek(0)
        tries = file.read().split()
    if run.name == tries[0] and tries.count(run.name) <= failing:
        raise RuntimeError("injected")
    return real(config, run, *rest)
training.loop.train = train
sys.argv[0] = "sweep.py"
runpy.run_path("sweep.py", run_name="__main__")
"""


@pytest.fixture
def begin(tmp_path, real_mnist):
    """Start a sweep of 2 runs over tmp_path; counted=N: with PROGRAM, whose first run fails N times."""
    started = []

    def start(*arguments, counted=None) -> subprocess.Popen:
        program = ["sweep.py"] if counted is None else ["-c", PROGRAM, str(tmp_path / "starts"), str(counted)]
        settings = [f"results={tmp_path}", f"data_dir={real_mnist}", "~grid.paper.powersgd", "wandb.mode=disabled"]
        process = subprocess.Popen(
            [sys.executable, *program, "experiment=fig2", "tier=smoke", "seeds=[0]", *settings, *arguments],
            cwd=ROOT,
            env=clean_environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def finished(process, seconds=90):
    """(exit status, stdout, stderr) of a sweep."""
    out, errors = process.communicate(timeout=seconds)
    return process.returncode, out, errors


def runs(results: Path) -> list[Run]:
    """The runs of the plan; none before it is written."""
    paths = list(results.glob("*/plan-fig2.json"))
    return [Run(entry["folder"]) for entry in json.loads(paths[0].read_text())["runs"]] if paths else []


def wait_for(condition, seconds=60):
    """Its first true value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)
    return value


def family(process: subprocess.Popen) -> list[int]:
    """The living processes of its session."""
    pids = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(session) == process.pid and state != "Z":
                pids.append(int(stat.parent.name))
    return pids


def owner(run: Run) -> int | None:
    """The process that has the run's lock file open."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) == str(run.folder / "lock"):
                return int(link.parent.parent.name)
    return None


def in_training(results: Path, epoch: int) -> Run | None:
    """A run that is at this epoch or further and being trained."""
    for run in runs(results):
        if run.status().get("epoch", -1) >= epoch and not run.ended() and owner(run):
            return run
    return None


def assert_complete(results: Path, epochs: int) -> None:
    found = runs(results)
    assert len(found) == 2 and all(run.ended() for run in found)
    assert all([row["epoch"] for row in run.rows()] == list(range(1, epochs + 1)) for run in found)


def starts(results: Path) -> list[str]:
    return (results / "starts").read_text().split()


def test_a_crashed_run_is_tried_once_more(begin, tmp_path):
    status, out, errors = finished(begin("retry=true", counted=1))
    assert status == 0, errors
    assert "2 of 2" in out
    assert_complete(tmp_path, 2)
    names = starts(tmp_path)
    assert len(names) == 3 and names[0] == names[-1]  # in a round of its own, after the others
    assert "injected" in (tmp_path / "runs" / names[0] / "log.txt").read_text()


def test_a_run_that_goes_on_crashing_is_reported(begin, tmp_path):
    status, out, errors = finished(begin("retry=true", counted=9))
    names = starts(tmp_path)
    assert status == 1 and "1 of 2" in out
    assert names.count(names[0]) == 2 and len(names) == 3
    assert f"{names[0]}: RuntimeError: injected" in errors and "Traceback" not in errors


def test_two_sweeps_share_the_runs(begin, tmp_path):
    sweeps = [begin("epochs=5", counted=0) for _ in range(2)]
    assert [finished(sweep)[0] for sweep in sweeps] == [0, 0]
    assert_complete(tmp_path, 5)
    assert len(starts(tmp_path)) == 2


def test_a_run_of_another_process_is_waited_for_and_taken_over_if_that_dies(begin, tmp_path):
    settings = ["experiment=fig2", "tier=smoke", f"results={tmp_path}", "epochs=5", "seed=0"]
    victim = Run.of(cli.plain(composed(*settings, "optimizer=sgd", "optimizer.lr=0.1")))
    hold = f"from runs.run import Run; lock = Run({str(victim.folder)!r}).locked(); print(1, flush=True)"
    environment = clean_environment(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", f"{hold}; input()"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        try:
            holder.stdout.readline()
            sweep = begin("epochs=5")
            wait_for(lambda: sum(run.ended() for run in runs(tmp_path)) == 1)
            time.sleep(1.5)
            assert sweep.poll() is None and victim.name in [run.name for run in runs(tmp_path)] and not victim.rows()
        finally:
            holder.kill()
    status, out, errors = finished(sweep)
    assert status == 0 and "2 of 2" in out, errors
    assert_complete(tmp_path, 5)


@pytest.mark.timeout(120)  # starts programs
def test_a_killed_worker_costs_nothing(begin, tmp_path):
    sweep = begin("launcher=local", "epochs=5")
    victim = wait_for(lambda: in_training(tmp_path, 1))
    os.kill(owner(victim), signal.SIGKILL)
    assert not victim.ended()
    status, out, errors = finished(sweep)
    assert status == 0 and "2 of 2" in out, errors
    assert "Traceback" not in errors
    assert_complete(tmp_path, 5)


@pytest.mark.parametrize("lacks", ["none to be had", "it dies before it has begun"])
def test_a_worker_without_memory_for_a_thread_does_not_wait_for_ever(lacks):
    """Python's Thread.start waits for a thread that died for lack of memory before it could say that it had begun."""
    fails = {"none to be had": "raise RuntimeError", "it dies before it has begun": "return 1"}[lacks]
    code = f"""if True:
        import _thread, sys, threading
        def start(*_):
            {fails}
        _thread.start_new_thread = threading._start_new_thread = start
        from sweeps import worker
        worker.bind(None)
        sys.exit(7)
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, capture_output=True, text=True)
    assert done.returncode == (1 if lacks == "none to be had" else 7) and done.stderr == ""


@pytest.mark.slow
def test_a_run_that_always_kills_its_worker_is_reported_and_the_others_end(begin, tmp_path):
    sweep = begin("launcher=local", "launcher.workers=2", "epochs=2")
    victim, killed = wait_for(lambda: runs(tmp_path))[0], set()
    while sweep.poll() is None:
        pid = owner(victim)
        if pid and pid not in killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        time.sleep(0.02)
    status, out, errors = finished(sweep)
    assert status == 1 and "1 of 2" in out, errors
    assert f"{victim.name}: its process died" in errors and "Traceback" not in errors
    assert len(killed) == 3
    assert all(run.ended() for run in runs(tmp_path) if run.name != victim.name)


@pytest.mark.parametrize(
    ("number", "launcher"),
    [
        pytest.param(signal.SIGINT, "local", marks=pytest.mark.slow),
        (signal.SIGTERM, "local"),
        (signal.SIGINT, "here"),
    ],
)
def test_a_signal_ends_a_sweep_with_its_state_saved(number, launcher, begin, tmp_path):
    """Ctrl-C reaches all processes, SIGTERM that of the sweep alone. An epoch takes too long to save at its end."""
    arguments = ["epochs=1", "dataset.subset=10000", f"launcher={launcher}"]
    sweep = begin(*arguments)
    victim = wait_for(lambda: in_training(tmp_path, 0))
    sent = time.time()
    if number == signal.SIGINT:
        os.killpg(sweep.pid, number)
    else:
        os.kill(sweep.pid, number)
    status, _, errors = finished(sweep)
    assert status == 128 + number, errors
    assert "rerun the same command to resume" in errors and "Traceback" not in errors
    wait_for(lambda: not family(sweep), seconds=10)
    begun = [run for run in runs(tmp_path) if run.status()]
    assert 1 <= len(begun) <= (os.cpu_count() if launcher == "local" else 1)
    assert victim.name in [run.name for run in begun]
    for run in begun:
        assert not run.rows() and not run.busy()
        assert (run.folder / "checkpoint.pt").stat().st_mtime > sent
    if (number, launcher) == (signal.SIGINT, "local"):
        status, _, errors = finished(begin(*arguments))
        assert status == 0, errors
        assert_complete(tmp_path, 1)


def test_slurm_without_its_plugin_is_one_line(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if "submitit" in name else real(name, *rest)
    )
    done = typed("sweep.py", "experiment=fig2", "launcher=slurm")
    assert done.returncode == 2 and "requirements-slurm.txt" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("device", "seen"), [("cpu", ""), ("mps", None)])
def test_a_worker_on_the_cpu_of_a_machine_with_gpus_sees_none_of_them(device, seen, monkeypatch):
    monkeypatch.setattr("sweeps.engines.ProcessPoolExecutor", lambda *_, initargs, **__: initargs)
    assert Local(Place(device, 2))._worker((None,)) == (seen,)


TRACKER = """
import os, signal, time
from multiprocessing.resource_tracker import _resource_tracker as tracker
from types import SimpleNamespace
from sweeps.engines import Local
pool = Local(SimpleNamespace(gpus=[], slots=1, device="cpu"))._worker((None,))
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    os.kill(tracker._pid, number)
time.sleep(0.3)
print(os.waitpid(tracker._pid, os.WNOHANG)[0], signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


def test_what_multiprocessing_keeps_beside_workers_outlives_a_closed_terminal():
    """A restarted tracker printed a traceback for each resource that was made before."""
    done = subprocess.run([sys.executable, "-c", TRACKER], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["0", "False"], done.stderr


def test_a_second_ctrl_c_ends_a_worker_s_run_and_nothing_where_it_has_none():
    stop = Stop()
    stop.worker = True
    for _ in range(2):  # multiprocessing would print a traceback
        stop._note(signal.SIGINT, None)
    stop.requested, stop.in_job = 0, True
    with pytest.raises(Interrupted):
        stop._note(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        stop._note(signal.SIGINT, None)


def test_a_signal_during_a_destructor_is_not_lost(capfd):
    """There Python ignores what the handler raises, with a traceback."""

    class Dying:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    with Stop() as stop:
        stop.in_job = True
        dying = Dying()
        with pytest.raises(Interrupted, match="SIGTERM"):
            del dying
            time.sleep(5)
    assert "Traceback" not in capfd.readouterr().err
