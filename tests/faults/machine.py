"""What else a machine and its user do: signals, several processes at once, small disks, limits, odd command lines."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.helpers import ROOT, clean_environment

from .disk import again, calls_of
from .harness import KILL_BEFORE, Ended, Table, arm, child, program
from .scenarios import MLP, Scenario, files

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
LONG = ("epochs=6", "checkpoint_seconds=0")


def interrupt(scenario: Scenario, folder: Path) -> None:
    """Leave in `folder` the scenario's run as a kill near its end leaves it."""
    count, _ = calls_of(scenario, folder / "undisturbed")
    shutil.rmtree(folder / "undisturbed")

    def act() -> None:
        arm(folder, KILL_BEFORE, count - 12)
        scenario.act(folder)

    assert child(act).status < 0


def signals(scenario: Scenario, scratch: Path, table: Table, count: int, choose: random.Random) -> None:
    """At any moment, now and then twice; then the same command again."""
    started = time.monotonic()
    expected = _undisturbed(scenario, scratch)
    usual = time.monotonic() - started
    for _ in range(count):
        number, twice = choose.choice(SIGNALS), choose.random() < 0.2
        folder = scratch / "case"

        def disturb(pid: int, number=number, twice=twice) -> None:
            for _ in range(1 + twice):
                time.sleep(choose.uniform(0, usual / (1 + twice)))
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

        done = child(lambda folder=folder: scenario.act(folder), signals=disturb)
        about = f"{number.name}{' twice' * twice}: {done}"
        told = [line for line in done.errors.splitlines() if line.strip()]
        if done.traceback or (done.status > 0 and len(told) > 1):
            table.add("signals at any moment", "traceback", about)
        else:
            table.add("signals at any moment", *again(scenario, folder, expected, about))
        shutil.rmtree(folder)


def _undisturbed(scenario: Scenario, scratch: Path) -> object:
    folder = scratch / "undisturbed"
    done = child(lambda: scenario.act(folder))
    assert done.status == 0, done
    return scenario.came_out(folder)


def at_once(scenario: Scenario, scratch: Path, table: Table, count: int) -> None:
    """Two and three processes with the same command: one trains, the others say so in a line."""
    expected = _undisturbed(scenario, scratch)
    for case in range(count):
        folder, processes = scratch / "case", 2 + case % 2

        def several(folder=folder, processes=processes) -> None:
            pids = []
            for _ in range(processes):
                pid = os.fork()
                if pid == 0:
                    try:
                        scenario.act(folder)
                        os._exit(0)
                    except SystemExit as leaving:
                        os._exit(leaving.code if isinstance(leaving.code, int) else 1)
                pids.append(pid)
            statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
            os._exit(0 if 0 in statuses and set(statuses) <= {0, 1} else 3)

        done = child(several)
        about = f"{processes} at once: {done}"
        told = [line for line in done.errors.splitlines() if line.strip()]
        if done.traceback or done.status or not all(line.startswith("error: ") for line in told):
            table.add("several processes at once", "traceback", about)
        else:
            table.add("several processes at once", *again(scenario, folder, expected, about))
        shutil.rmtree(folder)


def conditions(scenario: Scenario, scratch: Path, table: Table) -> None:
    """Few open files, little memory, odd umasks and paths, a clock that goes backwards, a small or read-only disk."""
    expected = _undisturbed(scenario, scratch)

    def under(name: str, before, folder: Path | None = None) -> None:
        place = folder or scratch / "case"

        def act() -> None:
            before()
            scenario.act(place)

        done = child(act)
        if done.traceback or (done.status and not done.one_line):
            table.add(name, "traceback", str(done))
        else:
            table.add(name, *again(scenario, place, expected, str(done)))
        shutil.rmtree(place, ignore_errors=True)

    for limit in (12, 16, 20, 24, 32):
        under("few open files", lambda limit=limit: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
    for size in (0, 1, 100, 1000, 5000, 10_000, 20_000, 50_000):
        under("files limited in size", lambda size=size: _small_files(size))
    for mask in (0o000, 0o022, 0o077, 0o027):
        under("odd umasks", lambda mask=mask: os.umask(mask))
    for name in ("with space", "ünïcödé", "a=b", "new\tline", "100%", "[x]", "#1", "-dash", "x" * 100):
        under("odd paths", lambda: None, scratch / name)

    def backwards() -> None:
        clock, now = time.time, iter(range(10**9))
        time.time = lambda: clock() - 3600 * next(now)

    under("the clock goes backwards", backwards)


def _small_files(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def small_disks(scenario: Scenario, scratch: Path, table: Table, sizes, name: str = "full disks of many sizes") -> None:
    """Real ones, if this user may mount them; sizes: kB."""
    expected = _undisturbed(scenario, scratch)
    for size in sizes:
        place = scratch / "disk"
        place.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(place)]
        if subprocess.run(mount, capture_output=True).returncode:
            table.notes.append(f"{name}, a read-only disk: not run here, where no disks can be mounted")
            return
        folder = place / "results"
        done = child(lambda folder=folder: scenario.act(folder))
        about = f"{size} kB: {done}"
        subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
        if done.traceback or (done.status and not done.one_line):
            table.add(name, "traceback", about)
        else:
            table.add(name, *again(scenario, folder, expected, about))
        if size % 4 == 0 and folder.exists():  # whole, and then read-only
            before = files(folder)
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
            for what in ("asked again", "status"):
                act = scenario.act if what == "asked again" else _status
                done = child(lambda folder=folder, act=act: act(folder))
                fine = not done.traceback and (done.status == 0 or done.one_line) and files(folder) == before
                table.add(
                    "a read-only disk", ("same" if done.status == 0 else "refused") if fine else "traceback", str(done)
                )
        subprocess.run(["umount", "-l", str(place)], check=True)


def _status(folder: Path) -> None:
    program("sweep", "status=true", "experiment=fig2", f"results={folder}")()


SETTINGS = """
epochs batch_size seed threads accumulate precision device checkpoint_seconds budget compile numerics format tier source
optimizer optimizer.name optimizer.lr optimizer.gamma optimizer.momentum optimizer.weight_decay
model model.name model.depth model.width model.init batch_statistics stop.success stop.dead
schedule schedule.name schedule.first schedule.longer schedule.milestones schedule.factor
dataset dataset.name dataset.mean dataset.std dataset.image_shape dataset.num_classes dataset.subset dataset.validation
dataset.augment dataset.workers dataset.load experiment plan merge status verify rerun planned seeds grid only also
protocol.seeds protocol.reach wandb.mode data_dir results runs
"""
VALUES = """
0 -1 1 2 1.5 -0 nan inf 1e400 1e-400 1e40 99999999999999999999 100000 '' null true no_such [] [1] [0] [2,1] [1,1] [-1]
[1,2,3] [0.5,0.5,0.5] [0,0,0] {} {a:1} ${x} "${x}" é / /proc/x ../x x=y [ ' cpu meta cuda:9 sgd step warm_restarts mlp
resnet50 wrn26 synthetic mnist paper smoke fig2 torch.optim:Adam
"""
LENGTHS = ("epochs", "model.depth", "model.width", "model")  # of which a large one is no mistake, but long


def command_lines(scratch: Path, table: Table, count: int, choose: random.Random, warm: bool = True) -> None:
    """What is refused is refused in one line and leaves nothing; what is accepted runs. Not warm: as real programs."""
    base, settings, values = [*MLP, "epochs=1"], SETTINGS.split(), VALUES.split()
    for _ in range(count):
        name = choose.choice(("train", "train", "train", "sweep"))
        odd = []
        for key in choose.sample(settings, choose.choice((1, 1, 1, 2))):
            few = values if key not in LENGTHS else [value for value in values if len(value) < 5]
            odd.append(f"{key}={choose.choice(few)}")
        folder = scratch / "case"
        more = ["+grid.paper={sgd: {lr: [0.1]}}", "plan=true"] if name == "sweep" else []
        given = [*base, f"results={folder}", "data_dir=/work/nowhere", *more, *odd]
        arguments = list({text.split("=")[0]: text for text in given}.values())  # the last of each

        def act(name=name, arguments=arguments) -> None:
            os.chdir(scratch)
            program(name, *arguments)()

        done = child(act, seconds=60) if warm else real_program(scratch, f"{name}.py", *arguments)
        left = list((folder / "runs").glob("*/")) if folder.exists() else []
        about = f"{name}.py {' '.join(odd)}: {done}, left {[path.name for path in left]}"
        row = "generated command lines" if warm else "generated command lines, as programs of their own"
        if done.traceback or done.status < 0 or (done.status and not done.one_line):
            table.add(row, "traceback", about)
        elif done.status and left:
            table.add(row, "silent", about)
        else:
            table.add(row, "refused" if done.status else "same", about)
        shutil.rmtree(folder, ignore_errors=True)


def real_program(scratch: Path, *arguments: str, before: Callable[[], object] | None = None) -> Ended:
    """A Python of its own with these arguments, without the shim."""
    environment = clean_environment(scratch)
    environment.pop("LD_PRELOAD", None)
    arguments = str(ROOT / arguments[0]), *arguments[1:]
    done = subprocess.run([sys.executable, *arguments], cwd=scratch, env=environment, preexec_fn=before, timeout=120,
                          capture_output=True, text=True)  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


def few_files(scratch: Path, table: Table, limits) -> None:
    """A whole program that may have so many files open at once: Python, torch and Hydra are imported under it, too."""
    for limit in limits:
        folder = scratch / "case"
        arguments = ("train.py", *MLP, f"results={folder}")

        def few(limit=limit) -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

        done = real_program(scratch, *arguments, before=few)
        about = f"{limit} files: {done}"
        if done.traceback or (done.status and not done.one_line):
            table.add("few open files, as a program of its own", "traceback", about)
        else:
            again = real_program(scratch, *arguments)
            what = "lost" if again.status else "refused" if done.status else "same"
            table.add("few open files, as a program of its own", what, f"{about}, {again}")
        shutil.rmtree(folder, ignore_errors=True)


def imports(scratch: Path, table: Table, count: int, choose: random.Random) -> None:
    """Ctrl-C while a real program starts."""
    for _ in range(count):
        command = [sys.executable, str(ROOT / "train.py"), *MLP, "epochs=50", f"results={scratch / 'case'}"]
        environment = clean_environment(scratch)
        environment.pop("LD_PRELOAD", None)
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                                   text=True)  # fmt: skip
        time.sleep(choose.uniform(0.1, 5))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
        lines = [line for line in errors.splitlines() if line.strip()]
        good = process.returncode in (130, 0) and len(lines) <= 1
        early = process.returncode == -signal.SIGINT or "init_import_site" in errors  # before the program's first line
        about = f"{process.returncode}: {errors}"
        table.add("Ctrl-C while a program starts", "refused" if good or early else "traceback", about)
        shutil.rmtree(scratch / "case", ignore_errors=True)
