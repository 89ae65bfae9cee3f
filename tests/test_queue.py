"""The queue of runs, where they are placed, and what a lease guarantees; nothing here trains."""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from fractions import Fraction

import pytest

from runs import lease
from runs.run import Run, RunBusy
from runs.schema import ConfigError
from sweeps import place, worker
from sweeps.cost import memory_gb
from sweeps.engines import Local, Task
from sweeps.launch import Queue
from sweeps.on_ray import cores_of_a_gpu
from sweeps.place import Gpu, Place
from sweeps.plan import Job
from sweeps.worker import Failure, Outcome

from .helpers import ROOT, clean_environment, make_config, typed


class Fake:
    """An engine of two slots whose runs end when the test says so."""

    def __init__(self, slots=2):
        self.slots, self.running, self.started, self.over = slots, [], [], []

    def room(self, task):
        return len(self.running) < self.slots

    def start(self, task):
        self.running.append(task)
        self.started.append((task.job.run.name, task.share))

    def end(self, job, failure=None, finish=True):
        (task,) = [task for task in self.running if task.job.run.name == job.run.name]
        self.running.remove(task)
        if failure is None and finish:
            end(task.job.run)
        self.over.append((task, None if failure is None and not finish else Outcome(failure, "here", 0.0, 1.0)))

    def ended(self, seconds):
        over, self.over = self.over, []
        return over

    def leave(self):
        pass

    def close(self):
        pass


def end(run, state="finished", epoch=2):
    run.begin(asdict(make_config(run.folder.parent)), {}, "0")
    run.write_rows([{"epoch": number} for number in range(1, epoch + 1)])
    run.write_status(state, epoch, 2, 1.0)


def job(folder, seed, **changes):
    return Job("sgd", "grid", (), asdict(make_config(folder, "sgd", seed=seed, **changes)), [])


@pytest.fixture
def queue(tmp_path):
    def made(seconds=lambda job: 1.0, share=Fraction(1), retry=False):
        return Queue(Fake(), retry, lambda job: (seconds(job), share))

    return made


def test_the_longest_runs_begin_first_and_a_run_of_two_experiments_is_trained_once(queue, tmp_path):
    jobs = [job(tmp_path, seed) for seed in range(3)]
    with queue(lambda job: job.config["seed"]) as one:
        one.add(jobs)
        one.add([job(tmp_path, 2), job(tmp_path, 1)])
        one._start()
        assert [name for name, _ in one.engine.started] == [jobs[2].run.name, jobs[1].run.name]
        assert len(one.waiting) == 1


def test_runs_of_about_one_length_begin_in_the_order_in_which_they_were_added(queue, tmp_path):
    jobs = [job(tmp_path, seed) for seed in range(3)]
    with queue(lambda job: 100 + job.config["seed"]) as one:
        one.add(jobs)
        one._start()
        assert [name for name, _ in one.engine.started] == [jobs[0].run.name, jobs[1].run.name]


def test_there_is_no_barrier_a_run_that_was_asked_for_later_begins_beside_one_that_still_trains(queue, tmp_path):
    long, short, later = (job(tmp_path, seed) for seed in range(3))
    with queue(lambda job: 9 - job.config["seed"]) as one:
        one.add([long, short])
        one._start()
        one.engine.end(short)
        assert one.wait() == {short.run.name}
        one.add([later])
        one._start()
        assert {task.job.run.name for task in one.running} == {long.run.name, later.run.name}
        one.engine.end(long), one.engine.end(later)
        assert one.wait() == {long.run.name, later.run.name} and one.wait() == set()


def test_a_run_that_does_not_fit_gets_a_whole_gpu_once(queue, tmp_path):
    tight = job(tmp_path, 0)
    with queue(share=Fraction(1, 4)) as one:
        one.add([tight])
        one._start()
        one.engine.end(tight, Failure("memory", "OutOfMemoryError: CUDA"))
        (ended,) = one.engine.ended(0)
        one.running.clear()
        assert one._judged(*ended) == set()
        one._start()
        assert one.engine.started == [(tight.run.name, Fraction(1, 4)), (tight.run.name, Fraction(1))]
        one.engine.end(tight, Failure("memory", "OutOfMemoryError: CUDA"))
        assert one.wait() == {tight.run.name}
        assert "accumulate=2" in one.failed[tight.run.name]


def test_a_run_that_dies_three_times_without_a_new_epoch_is_given_up(queue, tmp_path):
    fragile = job(tmp_path, 0)
    with queue() as one:
        one.add([fragile])
        for death in range(4):
            one._start()
            if death == 0:
                end(fragile.run, "running", epoch=1)  # it got further
            one.engine.end(fragile, finish=False)
            (ended,) = one.engine.ended(0)
            one.running.clear()
            over = one._judged(*ended)
            assert bool(over) == (death == 2)
            if over:
                break
        assert "died" in one.failed[fragile.run.name] and len(one.engine.started) == 3


def test_a_run_that_dies_again_and_again_before_its_next_checkpoint_is_given_up(queue, tmp_path):
    """Its rows are ahead of its checkpoint, so that its status says another epoch each time."""
    fragile = job(tmp_path, 0)
    with queue() as one:
        one.add([fragile])
        for epoch in (5, 4, 5, 3):
            one._start()
            end(fragile.run, "running", epoch)
            one.engine.end(fragile, finish=False)
            (ended,) = one.engine.ended(0)
            one.running.clear()
            over = one._judged(*ended)
            assert bool(over) == (epoch == 5 and len(one.engine.started) == 3)
            if over:
                break
        assert "died" in one.failed[fragile.run.name]


def test_a_crash_is_tried_again_only_if_asked(queue, tmp_path):
    crashing = job(tmp_path, 0)
    for retry, tries in ((False, 1), (True, 2)):
        with queue(retry=retry) as one:
            one.add([crashing])
            for _ in range(tries):
                one._start()
                one.engine.end(crashing, Failure("crashed", "RuntimeError: injected"))
                (ended,) = one.engine.ended(0)
                one.running.clear()
                over = one._judged(*ended)
            assert over == {crashing.run.name} and len(one.engine.started) == tries


def test_the_bar_opens_the_records_of_those_runs_alone_that_changed(queue, tmp_path, monkeypatch):
    jobs = [job(tmp_path, seed) for seed in range(20)]
    for one in jobs:
        one.run.folder.mkdir(parents=True)
    with queue() as one:
        one.add(jobs)
        opened = []
        monkeypatch.setattr(Run, "status", lambda run: opened.append(run.name) or {})
        one.progress._look()
        assert opened == []
        end_at = jobs[3].run.folder / "status.json"
        end_at.write_text("{}")
        one.progress._look()
        assert opened == [jobs[3].run.name]


# Placement

SMI = "0, GPU-aaa, NVIDIA H100 80GB HBM3, 81559\n1, GPU-bbb, NVIDIA H100 80GB HBM3, 81559\n"


@pytest.fixture
def smi(monkeypatch, tmp_path):
    """A machine whose nvidia-smi shows two GPUs."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nprintf '{SMI}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    place.visible.cache_clear()
    yield
    place.visible.cache_clear()


def placed(tmp_path, **changes):
    return place.place(asdict(make_config(tmp_path, **({"device": "auto"} | changes))))


def test_a_gpu_machine_is_seen_without_torch_and_its_runs_never_fall_to_the_cpu(smi, tmp_path):
    found = placed(tmp_path, **{"launcher.name": "local"})
    assert [gpu.id for gpu in found.gpus] == ["0", "1"] and found.slots == 2 and "H100" in found.device
    assert place.placed_device({"device": "auto"}, found) == "cuda"
    assert placed(tmp_path, **{"launcher.name": "local", "launcher.gpus": 1}).slots == 1
    assert placed(tmp_path, **{"launcher.name": "local", "device": "cpu"}).gpus == ()


def test_a_multirun_side_by_side_is_refused_where_all_runs_would_take_the_same_gpu(smi, tmp_path):
    def multirun(*arguments):
        return typed("train.py", "-m", "tier=smoke", f"results={tmp_path / 'out'}", "optimizer.gamma=0.4,0.5",
                     "launcher=local", *arguments)  # fmt: skip

    done = multirun()
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "launcher=local" in done.stderr and "python sweep.py" in done.stderr
    assert not list((tmp_path / "out").glob("runs/*"))
    assert "launcher=local" not in multirun("device=cpu", "epochs=0").stderr  # it comes to the next mistake


@pytest.mark.parametrize(("shown", "ids"), [("1", ["1"]), ("GPU-bbb,0", ["GPU-bbb", "0"]), ("", []), ("7,0", [])])
def test_only_what_cuda_shows_is_shared_out(smi, monkeypatch, shown, ids):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert [gpu.id for gpu in place.visible()] == ids


def test_more_gpus_than_there_are_is_one_line_but_can_be_planned(smi, tmp_path):
    asked = {"launcher.name": "local", "launcher.gpus": 8}
    with pytest.raises(ConfigError, match="shows 2 GPUs"):
        placed(tmp_path, **asked)
    assert placed(tmp_path, plan=True, **asked).slots == 8


def test_each_worker_sees_its_gpu_alone_and_a_run_goes_where_there_is_room(tmp_path):
    """Two logical GPUs of halves. The runs are refused before torch is imported, as they are not what was planned."""
    engine = Local(Place("cpu", 2, (Gpu("0", "cpu"), Gpu("1", "cpu"))))
    tasks = [Task(job(tmp_path, seed), 1.0, Fraction(1, 2)) for seed in range(5)]
    for task in tasks:
        task.config = lambda place, task=task: task.job.config | {"planned": "0" * 12}
    for task in tasks[:4]:
        assert engine.room(task)
        engine.start(task)
    assert not engine.room(tasks[4])
    over = []
    while len(over) < 4:
        over += engine.ended(30)
    assert sorted(outcome.place.partition(" ")[2] for _, outcome in over) == ["GPU 0", "GPU 0", "GPU 1", "GPU 1"]
    assert {outcome.failure.kind for _, outcome in over} == {"refused"} and engine.room(tasks[4])
    engine.close()


@pytest.mark.parametrize("gpus", [4, 0])
def test_a_run_on_two_gpus_waits_for_both(tmp_path, gpus):
    """On a CPU it takes two of the workers' places."""
    engine = Local(Place("cpu", 4, tuple(Gpu(str(number), "cpu") for number in range(gpus))))
    tasks = [Task(job(tmp_path, seed, **{"launcher.gpus_per_run": 2}), 1.0) for seed in range(3)]
    for task in tasks:
        task.config = lambda place, task=task: task.job.config | {"planned": "0" * 12}
    for task in tasks[:2]:
        assert engine.room(task)
        engine.start(task)
    assert not engine.room(tasks[2])
    over = []
    while len(over) < 2:
        over += engine.ended(30)
    shown = ["GPU 0,1", "GPU 2,3"] if gpus else ["", ""]
    assert sorted(outcome.place.partition(" ")[2] for _, outcome in over) == shown and engine.room(tasks[2])
    engine.close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"launcher.name": "local", "launcher.workers": 2}, "launcher.gpus_per_run=3: there are 2"),
        ({"launcher.name": "local", "launcher.gpus": 2, "device": "cpu"}, "launcher.gpus_per_run=3: there are 2"),
        ({"launcher.name": "ray", "launcher.gpus": 2}, "launcher.gpus_per_run=3: there are 2"),
        ({"launcher.name": "slurm", "launcher.gpus_per_node": 2}, "gpus_per_node=2: launcher.gpus_per_run=3 needs"),
        ({"launcher.name": "here"}, "launcher=local, ray and slurm do that, here does not"),
    ],
)
def test_more_gpus_for_a_run_than_there_are_are_refused(tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        placed(tmp_path, **{"device": "cpu", "launcher.gpus_per_run": 3} | changes)


@pytest.mark.parametrize(("device", "gpus"), [("auto", [1, 2]), ("cpu", [0, 0])])
def test_a_job_asks_for_the_gpus_cores_and_memory_of_all_processes_of_its_run(tmp_path, device, gpus):
    on_slurm = {"launcher.name": "slurm", "device": device, "threads": 3}
    one, two = (job(tmp_path, 0, **on_slurm, **{"launcher.gpus_per_run": number}).config for number in (1, 2))
    assert [place.jobs_gpus(one), place.jobs_gpus(two)] == gpus
    assert [place.run_cores(one), place.run_cores(two)] == [3, 6]
    where = Place("NVIDIA H100", 8)
    assert memory_gb(two, where) == 2 * memory_gb(one, where)
    assert place.place(two).slots == 2 * place.place(one).slots  # of GPUs, for the days of a plan


@pytest.mark.parametrize(
    ("machine", "share", "workers"),
    [(64, Fraction(1, 2), 14), (64, Fraction(1), 16), (12, Fraction(1), 4), (4, Fraction(1), 2), (1, Fraction(1), 2)],
)
def test_a_run_s_share_of_the_cores_decodes_its_images_under_the_planned_name(
    tmp_path, monkeypatch, machine, share, workers
):
    """Two GPUs; of a run's share two cores are its threads. `dataset.workers` is 2, the least."""
    monkeypatch.setattr(os, "cpu_count", lambda: machine)
    where = Place("NVIDIA H100", 2, (Gpu("0", "NVIDIA H100"), Gpu("1", "NVIDIA H100")))
    one = job(tmp_path, 0, **{"dataset.folder": "imagenet", "threads": 2})
    config = Task(one, 1.0, share).config(where)
    assert config["dataset"]["workers"] == workers and Run.of(config).id == one.run.id == config["planned"]
    assert Task(job(tmp_path, 0), 1.0).config(where)["dataset"]["workers"] == 2  # nothing to decode


def test_on_ray_the_node_with_fewest_cores_for_a_gpu_says_what_a_run_may_ask_for():
    def node(alive=True, **resources):
        return {"Alive": alive, "Resources": resources}

    nodes = [node(CPU=64.0), node(CPU=32.0, GPU=4.0), node(CPU=24.0, GPU=2.0), node(False, CPU=1.0, GPU=1.0)]
    assert cores_of_a_gpu(nodes) == 8 and cores_of_a_gpu(nodes[:1]) is None


def test_a_worker_s_memory_error_is_no_crash(tmp_path, monkeypatch):
    from training import execute

    class OutOfMemoryError(RuntimeError):
        pass

    def full(settings):
        raise OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(execute, "execute", full)
    monkeypatch.setattr(worker, "stop", worker.Stop())
    assert worker._trained(job(tmp_path, 0).config).kind == "memory"


# Leases

HOLD = """
import sys
from pathlib import Path
from runs.lease import Lease
Lease(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def no_flock(monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lease.fcntl, "flock", refuse)
    lease._shared.cache_clear()
    yield
    lease._shared.cache_clear()


def test_without_flock_a_lease_keeps_others_out_and_a_dead_owner_s_is_taken_over(no_flock, tmp_path):
    run = Run(tmp_path / "runs" / "one")
    run.folder.mkdir(parents=True)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.folder)], cwd=ROOT, env=clean_environment(tmp_path), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as holder:  # fmt: skip
        holder.stdout.readline()
        assert run.busy()
        with pytest.raises(RunBusy, match=f"process {holder.pid} on"):
            run.locked()
        holder.kill()
    assert not run.busy()
    with run.locked():
        assert run.busy()
    assert not run.busy() and len(list(run.folder.glob("lease-*.json"))) == 1


def test_without_proc_as_on_a_mac_a_living_owner_keeps_its_lease_and_a_dead_one_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "PROC", tmp_path / "none")
    with lease.Lease(tmp_path).acquire() as mine:
        assert mine.held() == f"process {os.getpid()} on {socket.gethostname()}"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert lease._alive({"pid": other.pid, "begun": lease._begun(other.pid)})
    assert not lease._begun(other.pid)


def test_another_machine_s_lease_is_taken_over_only_when_it_is_old_and_by_one(tmp_path, monkeypatch):
    theirs = tmp_path / "lease-1.json"
    theirs.write_text(json.dumps({"owner": "process 1 on elsewhere", "host": "elsewhere", "pid": 1, "begun": "5"}))
    with pytest.raises(lease.Taken, match="elsewhere"):
        lease.Lease(tmp_path).acquire()
    os.utime(theirs, (0, time.time() - lease.LEASE - 1))
    (tmp_path / "lease-2.json").touch()  # somebody else is just taking it over
    with pytest.raises(lease.Taken):
        lease.Lease(tmp_path).acquire()
    (tmp_path / "lease-2.json").unlink()
    with lease.Lease(tmp_path).acquire() as mine:
        assert mine.path.name == "lease-2.json" and not theirs.exists()


def test_an_owner_whose_lease_was_taken_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT", 0.01)
    ended = []
    monkeypatch.setattr(lease.Lease, "lost", lambda self: (ended.append(self), self.over.set()))
    with lease.Lease(tmp_path).acquire():
        (tmp_path / "lease-2.json").touch()
        end = time.monotonic() + 5
        while not ended and time.monotonic() < end:
            time.sleep(0.01)
    assert ended
