"""`make sync` and `make watch`: upload what was logged on this machine to W&B, or show it in the terminal.

Offline runs are uploaded with `wandb sync`. That does not work for a run whose server failed in the middle, since W&B
would append the whole run to what the server already has. For such a run only the missing part is logged again, from
its own files.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from runs.run import Run
from runs.schema import Wandb
from training.tracking import keep_files
from training.view import About, summaries
from training.wandb_files import Files, records_of
from training.wandb_session import start

SECONDS = 3600  # for all of it: without a server wandb sync does not give up
AT_ONCE = 4


def sync(runs: Path) -> int:
    """Upload what a server may lack of the runs in this folder, except runs being trained; returns how many failed."""
    ours = [run for folder in sorted(runs.glob("*/wandb")) if not (run := Run(folder.parent)).busy()]
    failed = 0
    for run in ours:
        if Files(run.folder).unsent("run"):
            try:
                resend(run)
                print(f"sent     {run.name}")
            except Exception as error:
                failed += 1
                print(f"not sent {run.name}: {type(error).__name__}: {error}".splitlines()[0])
    offline = [str(path.parent) for run in ours for path in Files(run.folder).unsent("offline-run")]
    if offline:
        command = [sys.executable, "-m", "wandb", "sync", "--yes", "-n", str(AT_ONCE), *offline]
        with tempfile.TemporaryDirectory() as folder:  # for its own log
            subprocess.run(command, timeout=SECONDS, env=os.environ | {"WANDB_DIR": folder})
        failed += sum(len(Files(run.folder).unsent("offline-run")) for run in ours)
    elif not failed and not any(Files(run.folder).unsent("*run") for run in ours):
        print("nothing to upload")
    return failed


def resend(run: Run) -> None:
    """Log what an interrupted upload did not send. Raises what wandb raises."""
    files = Files(run.folder)
    id = files.id()
    records = [record for path in files.unsent("run", id) for record in records_of(path)]
    told = next(record["run"] for record in records if record["type"] == "run")
    config = {key: value for key, value in told["config"]["update"].items() if key != "_wandb"}
    about = About(told["display_name"], told["run_group"], told["job_type"], told["tags"], config)
    asked = Wandb(project=told["project"], entity=told.get("entity"), notes=told.get("notes"))
    with tempfile.TemporaryDirectory() as folder:
        started = start(about, id, "online", Path(folder), asked, init_seconds=60, finish_seconds=600)
        for step, row in sorted(files.rows(id).items()):
            if step >= started.starting_step:
                started.log({key: value for key, value in row.items() if key[0] != "_"}, step=step, commit=True)
        status = run.status()
        ending = {key: status.get(key) for key in ("state", "reason")}
        started.summary.update(summaries(run.rows()) | ending)
        keep_files(
            started, run, yaml.safe_load((run.folder / "config.yaml").read_text())["wandb"].get("artifacts", "none")
        )
        started.finish(exit_code=int(status.get("state") not in ("finished", "diverged")))
    files.mark_sent(id)


def watch(runs: Path) -> int:
    """Show the runs' curves in the terminal, live, with W&B's own viewer; returns its exit status."""
    found = sorted(runs.glob("*/wandb/*run-[0-9]*"), key=lambda path: path.stat().st_mtime)
    found = [path for path in found if path.is_dir() and list(path.glob("run-*.wandb"))]
    if not found:
        print(f"no run below {runs} has W&B's files yet; runs write them unless wandb.mode=disabled")
        return 2
    with tempfile.TemporaryDirectory() as folder:  # the viewer wants all runs in one
        for path in found:
            (Path(folder) / path.name).symlink_to(path.resolve())
        (Path(folder) / "latest-run").symlink_to(found[-1].resolve())
        return subprocess.run([sys.executable, "-m", "wandb", "leet", folder], env=os.environ).returncode
