"""launcher=slurm with a real SLURM of one node, which is started for it: make test-slurm."""

import contextlib
import getpass
import importlib.util
import os
import pickle
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from datetime import datetime
from pathlib import Path

import pytest

from runs.run import Run

from . import test_placement as forty
from .helpers import TIMES
from .test_distributed import ranks, same_as_torchrun, sweep_of_two
from .test_launch import begin, finished, in_training, owner, runs, wait_for  # noqa: F401

pytestmark = pytest.mark.slow

CONFIGURATION = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
GresTypes=gpu
SlurmdParameters=config_overrides
MaxArraySize=4
SlurmdTimeout=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=localhost NodeAddr=127.0.0.1 CPUs=32 RealMemory=100000 Gres=gpu:8 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=spare Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
"""


def missing() -> list[str]:
    """What must be installed by hand."""
    programs = ("sbatch", "srun", "squeue", "scancel", "slurmctld", "slurmd", "munged")
    found = [shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin") for program in programs]
    lacking = [] if all(found) else ["on Debian: apt install slurm-wlm munge"]
    if not importlib.util.find_spec("submitit"):
        lacking.append("pip install -r requirements-slurm.txt")
    return lacking


@pytest.fixture(scope="module", autouse=True)
def slurm():
    """A running SLURM that SLURM_CONF points at, without accounting; stopped and removed whatever happens."""
    if lacking := missing():
        asked_for = os.environ.get("POWERSGD_TEST_SLURM")
        (pytest.fail if asked_for else pytest.skip)(f"needs SLURM: {'; '.join(lacking)}", pytrace=False)
    with contextlib.ExitStack() as at_the_end, pytest.MonkeyPatch.context() as patch:
        folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # not tmp_path, too long for a socket's name
        at_the_end.callback(shutil.rmtree, folder, ignore_errors=True)
        at_the_end.callback(stop, folder)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        with socket.socket() as one, socket.socket() as other:
            for free in (one, other):
                free.bind(("127.0.0.1", 0))
            ports = [free.getsockname()[1] for free in (one, other)]
        configuration = folder / "slurm.conf"
        configuration.write_text(CONFIGURATION.format(user=getpass.getuser(), folder=folder, ports=ports))
        version = 2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1
        (folder / "cgroup.conf").write_text(f"CgroupPlugin=cgroup/v{version}\nCgroupAutomount=no\n")
        for number in range(8):
            (folder / f"gpu{number}").symlink_to("/dev/null")  # SLURM numbers only devices
        (folder / "gres.conf").write_text(f"AutoDetect=off\nName=gpu File={folder}/gpu[0-7]\n")
        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        patch.setenv("PATH", os.environ["PATH"] + ":/usr/sbin:/sbin")
        patch.setenv("SLURM_CONF", str(configuration))
        run("munged", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket", f"--seed-file={folder}/seed",
            f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log")  # fmt: skip
        run("slurmctld", "-f", str(configuration))
        start_node(folder)
        yield folder


def start_node(folder: Path) -> None:
    run("slurmd", "-f", f"{folder}/slurm.conf", "-N", "localhost")
    wait_for(lambda: node() == "idle", seconds=60)


def node() -> str:
    return run("sinfo", "--noheader", "--partition=debug", "--format=%T", check=False)


def lose_node(folder: Path, pids: list[int]) -> None:
    """Kill what runs on the node: SLURM's processes and these."""
    lost = [int((folder / "slurmd.pid").read_text())]
    lost += map(int, run("pgrep", "--full", f"slurmstepd.*{folder.name}|slurmstepd: ", check=False).split())
    for pid in lost + pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: node().startswith("down"), seconds=120)
    (folder / "slurmd.pid").unlink(missing_ok=True)


def stop(folder: Path) -> None:
    run("scancel", f"--user={getpass.getuser()}", "--signal=KILL", "--full", check=False)
    for name in ("slurmd", "slurmctld", "munged"):
        with contextlib.suppress(OSError, ValueError):
            pid = int((folder / f"{name}.pid").read_text())
            os.kill(pid, signal.SIGTERM)
            end = time.monotonic() + 10
            while Path(f"/proc/{pid}").exists():
                if time.monotonic() > end:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.1)


def run(*command: str, check: bool = True) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=30).stdout.strip()


def queue() -> str:
    return run("squeue", "--noheader", "--array", "--format=%i %j %T")


def another(results: Path, epoch: int, known: list[Run]) -> tuple[Run, int, str]:
    """One more run that is in training, its process, and the number of its job, which has a GPU of its own."""
    names = {one.name for one in known}
    found = wait_for(lambda: next((r for r in runs(results) if r.name not in names and at(r, epoch)), None), 120)
    known.append(found)
    pid = owner(found)
    assert told(pid)["SLURM_GPUS_ON_NODE"] == "1"
    return found, pid, job_of(pid)


def told(pid: int) -> dict[str, str]:
    """The process's environment."""
    lines = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def job_of(pid: int) -> str:
    environment = told(pid)
    return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"


def at(run: Run, epoch: int) -> bool:
    return run.status().get("epoch", -1) >= epoch and not run.ended() and bool(owner(run))


def timeless(run: Run) -> list[dict]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in run.rows()]


def test_jobs_that_are_killed_cancelled_requeued_or_out_of_time_end_with_the_same_metrics(begin, tmp_path):  # noqa: F811
    """Each run has one of eight generic GPUs; the cluster takes no array of more than three jobs."""
    arguments = ["epochs=6", "dataset.subset=4000", "seeds=[0,1,2]", "device=cpu"]
    sweep = begin("launcher=slurm", "launcher.gpus_per_node=1", *arguments)
    known = []
    killed, pid, _ = another(tmp_path, 1, known)
    os.kill(pid, signal.SIGKILL)
    assert not killed.ended()
    for command in ("scancel", "scontrol requeue"):
        _, _, number = another(tmp_path, 1, known)
        run(*command.split(), number)
    _, pid, number = another(tmp_path, 1, known)
    os.kill(pid, signal.SIGUSR2)  # as SLURM does before the time limit
    wait_for(lambda: f"{number} " in queue() and "PENDING" in queue().partition(f"{number} ")[2].splitlines()[0])
    assert not any(run.ended() for run in known[1:])
    status, out, errors = finished(sweep, 400)
    assert status == 0 and "6 of 6" in out and "Traceback" not in errors, errors
    scripts = list(tmp_path.glob(".slurm/*/*submission.sh"))
    assert scripts and all("--gpus-per-node=1" in script.read_text() for script in scripts)
    assert not queue()
    assert_same_as_here(begin, tmp_path, arguments)


def assert_same_as_here(begin, tmp_path: Path, arguments: list[str]) -> None:  # noqa: F811
    here = begin("launcher=here", *arguments, f"runs={tmp_path}/here")
    status, _, errors = finished(here, 200)
    assert status == 0, errors
    for one in runs(tmp_path):
        twin = Run(tmp_path / "runs" / one.name)
        assert twin.folder != one.folder and twin.ended() and one.ended()
        assert [row["epoch"] for row in twin.rows()] == list(range(1, 7))
        assert timeless(one) == timeless(twin)
        assert not (twin.folder / "log.txt").exists() or "crashed" not in (twin.folder / "log.txt").read_text()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("partition", ["debug", "spare"])  # where a preempted job is requeued, and where it is over
def test_preempted_jobs_end_with_the_same_metrics(partition, begin, tmp_path):  # noqa: F811
    arguments = ["epochs=6", "dataset.subset=4000", "device=cpu"]
    place = [f"launcher.partition={partition}", "launcher.gpus_per_node=1"]
    sweep = begin("launcher=slurm", *place, *arguments)
    known = []
    jobs = [another(tmp_path, 1, known) for _ in range(2)]
    everything = ["--partition=urgent", "--gpus-per-node=8", "--output=/dev/null", "--wrap=sleep 3"]
    urgent = run("sbatch", "--parsable", *everything)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for _, pid, _ in jobs))
    assert not any(one.ended() for one, _, _ in jobs)
    status, out, errors = finished(sweep, 500)
    assert status == 0 and "2 of 2" in out and "Traceback" not in errors, errors
    assert urgent not in queue()
    assert_same_as_here(begin, tmp_path, arguments)


@pytest.mark.timeout(600)
def test_jobs_whose_node_dies_end_with_the_same_metrics(begin, tmp_path, slurm):  # noqa: F811
    arguments = ["epochs=6", "dataset.subset=4000", "device=cpu"]
    sweep = begin("launcher=slurm", "launcher.gpus_per_node=1", *arguments)
    known = []
    jobs = [another(tmp_path, 1, known) for _ in range(2)]
    lose_node(slurm, [pid for _, pid, _ in jobs])
    assert not any(one.ended() for one, _, _ in jobs)
    start_node(slurm)
    status, out, errors = finished(sweep, 500)
    assert status == 0 and "2 of 2" in out and "Traceback" not in errors, errors
    assert_same_as_here(begin, tmp_path, arguments)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_cancels_its_jobs_which_save(number, begin, tmp_path):  # noqa: F811
    sweep = begin("launcher=slurm", "device=cpu", "epochs=2", "dataset.subset=50000")
    other = run("sbatch", "--parsable", "--job-name=powersgd-fig2", "--wrap=sleep 100", "--output=/dev/null")
    victim = wait_for(lambda: in_training(tmp_path, 0), seconds=120)
    sent = time.time()
    os.kill(sweep.pid, number)
    status, out, errors = finished(sweep)
    assert status == 128 + number and "Traceback" not in errors, errors
    assert "cancelling the SLURM jobs powersgd-" in out + errors
    assert (victim.folder / "checkpoint.pt").stat().st_mtime > sent and not victim.busy() and not victim.rows()
    assert queue().split()[0] == other and len(queue().splitlines()) == 1  # nobody else's
    run("scancel", other)
    wait_for(lambda: not queue(), seconds=60)


def test_what_sbatch_refuses_is_one_line(begin, tmp_path):  # noqa: F811
    for wrong, says in (("launcher.partition=nowhere", "of debug"), ("launcher.gpus_per_node=99", "device=cpu")):
        status, _, errors = finished(begin("launcher=slurm", wrong))
        assert status == 2 and "cannot submit" in errors and says in errors and "Traceback" not in errors, errors


@pytest.mark.timeout(600)
def test_jobs_of_two_gpus_survive_the_time_limit_and_the_death_of_a_rank_with_the_bits_of_torchrun(tmp_path):
    sweep = sweep_of_two(tmp_path, "launcher=slurm", "launcher.gpus_per_node=2", "checkpoint_seconds=0")
    (one,), (other,) = (wait_for(lambda gpus=gpus: ranks(tmp_path, gpus), 120) for gpus in (b"0,1", b"2,3"))
    wait_for(lambda: len(list(tmp_path.glob("sweep/runs/*/metrics.csv"))) == 2, 120)
    os.kill(one, signal.SIGKILL)
    number = job_of(other)
    run("scancel", "--signal=USR2", number)  # to all processes of the job, as before its time limit
    wait_for(lambda: any(line.startswith(f"{number} ") and "PENDING" in line for line in queue().splitlines()), 60)
    same_as_torchrun(tmp_path, sweep)
    logs = [path.read_text() for path in tmp_path.glob("sweep/runs/*/log.txt")]
    assert sum("crashed" in text for text in logs) == 1, logs  # only the one whose rank was killed


@pytest.mark.timeout(900)
def test_forty_runs_of_two_experiments_share_eight_gpus_whose_node_is_lost(tmp_path, real_mnist, slurm):
    """A job is killed, too. Each run has its own GPU, no GPU waits for a round, and the metrics are the same."""
    sweep = forty.begin(tmp_path, real_mnist, "launcher=slurm", "launcher.gpus_per_node=1", "epochs=12")
    wait_for(lambda: in_training(tmp_path, 1) or forty.ended(sweep), 200)
    lose_node(slurm, [pid for run in runs(tmp_path) if (pid := owner(run))])
    start_node(slurm)
    since = time.time()
    victim = wait_for(lambda: in_training(tmp_path, 0) or forty.ended(sweep), 200)
    if pid := owner(victim):
        os.kill(pid, signal.SIGKILL)
    forty.finished(sweep)
    allocated = jobs_spans()
    found = [Run(folder) for folder in (tmp_path / "runs").iterdir()]
    assert len(found) == 40 and all(run.ended() for run in found)
    returned = [pickle.loads(path.read_bytes())[1] for path in tmp_path.glob(".slurm/*/*_result.pkl")]
    spans = [forty.Span(one.place, one.began, one.ended) for one in returned if one.failure is None]
    shares = [forty.in_use(some, 8, since) for some in (allocated, spans)]
    print(f"{len(spans)} spans, {forty.at_once(spans)} at once; since the node returned "
          "{:.0%} of the time allocated to jobs, {:.0%} in runs".format(*shares))  # fmt: skip
    places = {span.place for span in spans}
    assert len(places) == 8 == forty.at_once(spans)
    for place in places:
        assert "GPU" in place and forty.at_once([span for span in spans if span.place == place]) == 1
    assert 100 * shares[0] >= forty.LEAST
    forty.same_as_here(tmp_path, real_mnist, "epochs=12")


def jobs_spans() -> list[forty.Span]:
    """When jobs had their GPU, as far as SLURM remembers, minutes."""
    lines = run("squeue", "--noheader", "--array", "--states=COMPLETED,FAILED", "--format=%i %S %e").splitlines()
    return [forty.Span(job, *(datetime.fromisoformat(one).timestamp() for one in times))
            for job, *times in map(str.split, lines)]  # fmt: skip
