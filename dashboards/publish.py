"""`make dashboard`: puts the archive's runs, a summary run per experiment, views and report into a W&B project.

It can be repeated: a run that is there is skipped, a summary is sent again if its content changed, views and report are
replaced under their own names. A run that was deleted in the project is created again under another id.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from analysis.claims import judge
from dashboards.contents import Archived, archived, experiments, paper_values
from runs import table
from runs.schema import Wandb
from training import view
from training.wandb_session import chosen_mode, deleted_there, one_line, project, silent, start, wandb_module

AT_ONCE = (8, 4, 1)  # what fails is tried again, with fewer at once
IDS = 5  # how often a run is given another id
INIT_SECONDS, FINISH_SECONDS = 20.0, 300.0
SILENCE = 10.0  # seconds after which a server that does not answer is given up


def publish(results: Path, to_project: str | None, entity: str | None) -> int:
    """Bring the project up to date with the results; returns the exit status."""
    mode, why = chosen_mode("online")
    if mode != "online":
        print(f"error: a dashboard needs a W&B account: {why}", file=sys.stderr)
        return 2
    asked = Wandb(project=to_project, entity=entity)
    wandb = wandb_module()
    asked.project = project(asked)
    own = asked.entity = asked.entity or wandb.setup().settings.entity or wandb.Api().default_entity or ""
    there = published(asked)
    failed = backfill(results, asked, there)
    summaries = [summary(results, tier, name) for tier, name in experiments(results)]
    changed = {one.id: partial(send_summary, one, asked) for one in summaries if there.get(one.id) != one.digest}
    failed += send("summaries", changed)
    from dashboards.report import report, save
    from dashboards.views import views

    for one in [*views(results, own, asked.project), report(results, own, asked.project)]:
        try:
            print(f"saved    {save(one)}")
        except Exception as error:  # of the network, of W&B, or of its package
            print(f"not saved: {one_line(error)}")
            failed += 1
    if failed:
        print("Rerun to send what is missing.")
    return min(1, failed)


def published(asked: Wandb) -> dict[str, str]:
    """What the project has already: the `run` of each complete run of ours, and the digest of its content."""
    from wandb.errors import CommError

    api = wandb_module().Api()
    try:
        runs = api.runs(f"{asked.entity}/{asked.project}", filters={"tags": {"$in": [ARCHIVE, PAPER, SUMMARY]}},
                        per_page=500, lazy=False)  # fmt: skip
        return {run.config["run"]: run.config.get("digest", "") for run in runs if run.state == "finished"}
    except (ValueError, CommError):  # no such project yet
        return {}


ARCHIVE, PAPER, SUMMARY = "archive", "the paper", "summary"


def backfill(results: Path, asked: Wandb, there: Iterable[str]) -> int:
    """Send the archive's runs and the paper's values that the project lacks; returns how many could not be sent.

    Runs that this machine has trained and logged itself are there as its own.
    """
    own = {path.parent.parent.name.rsplit("-", 1)[-1] for path in results.glob("runs/*/wandb/id")}
    runs = [run for run in archived(results) if run.id not in there and run.id not in own]
    values = [value for value in paper_values(results) if value[0] not in there]
    jobs = {f"archive-{run.id}": partial(send_archived, run, asked) for run in runs}
    jobs |= {id: partial(send_value, id, about, found, asked) for id, about, found in values}
    return send("runs", jobs)


def send(what: str, jobs: dict[str, Callable[[Path], None]]) -> int:
    """Do the jobs, several at once, each with a folder for W&B's own files; returns how many finally failed.

    A job that fails, for example on a busy machine or server, is retried after the others. Once the server no longer
    answers, no more are tried.
    """
    wandb = wandb_module()
    url, errors, left, lost = wandb.setup().settings.base_url, {}, jobs, ""

    def attempt(name: str) -> None:
        nonlocal lost
        if lost:
            return
        try:
            jobs[name](Path(folder))
            del errors[name]
        except Exception as error:
            errors[name] = one_line(error)
            lost = silent(url, SILENCE)

    for at_once in AT_ONCE:
        errors = dict.fromkeys(left, "not tried")
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(at_once) as pool:
            list(pool.map(attempt, left))
        left = errors
        if not left or lost:
            break
        wandb.teardown()  # otherwise W&B's service keeps the id of a run that it could not start
    print(f"{what:<9}{len(jobs) - len(left)} of {len(jobs)} sent")
    if lost:
        print(f"not sent: {len(left)} {what}, since {url} does not answer: {lost}")
    else:
        for name, why in left.items():
            print(f"not sent: {name}: {why}")
    return len(left)


def send_archived(run: Archived, asked: Wandb, folder: Path) -> None:
    started = begin(f"archive-{run.id}", run.about, asked, folder)
    for row in run.rows:
        step, found = view.shown(row, run.batch_size)
        if step >= started.starting_step:
            started.log(found, step=step, commit=True)
    started.summary.update(view.summaries(run.rows) | run.ending)
    started.finish()


def send_value(id: str, about: view.About, values: dict, asked: Wandb, folder: Path) -> None:
    about.config["run"] = id
    started = begin(id, about, asked, folder)
    started.summary.update(values)
    started.finish()


def begin(id: str, about: view.About, asked: Wandb, folder: Path) -> Any:
    def under(name: str) -> Any:
        return start(about, name, "online", folder, asked, init_seconds=INIT_SECONDS, finish_seconds=FINISH_SECONDS)

    for name in (id, *(f"{id}-{number}" for number in range(2, IDS))):
        try:
            return under(name)
        except Exception as error:
            if not deleted_there(error):
                raise
    return under(f"{id}-{IDS}")


class Summary:
    """An experiment's results as one run: pictures, tables, and the files from which they were made."""

    def __init__(self, tier: str, experiment: str, pictures: list[Path], files: list[Path], tables: dict[str, tuple]):
        self.id, self.tier, self.experiment = f"summary-{experiment}-{tier}", tier, experiment
        self.pictures, self.files, self.tables = pictures, files, tables
        content = json.dumps(tables, sort_keys=True).encode() + b"".join(p.read_bytes() for p in [*pictures, *files])
        self.digest = hashlib.sha256(content).hexdigest()[:12]


def summary(results: Path, tier: str, experiment: str) -> Summary:
    folder = results / tier
    figure = experiment.replace("fig", "figure", 1)
    names = [figure, *(f"{figure[:-2]}{panel}" for panel in figure[-2:] if experiment.startswith("fig1"))]
    names.append(f"fairness-{experiment}")
    found = [folder / f"{name}.{kind}" for name in names for kind in ("png", "csv", "md", "json")]
    found += [folder / f"plan-{experiment}.json", folder / f"selection-{experiment}.csv"]
    found += [folder / "archive" / f"{experiment}-{part}.csv" for part in ("runs", "epochs")]
    files = [path for path in found if path.exists()]
    verdicts = [verdict for verdict in judge.judge(results, tier, experiment) if verdict.experiment == experiment]
    tables = {"claims": (judge.HEADER, [verdict.row() for verdict in verdicts])}
    if (path := folder / f"selection-{experiment}.csv").exists():
        rows = table.read(path)
        tables["selection"] = list(rows[0]), [list(row.values()) for row in rows]
    return Summary(tier, experiment, [path for path in files if path.suffix == ".png"], files, tables)


def send_summary(one: Summary, asked: Wandb, folder: Path) -> None:
    wandb = wandb_module()
    tags = [one.tier, one.experiment, SUMMARY]
    config = {"run": one.id, "tier": one.tier, "origin": "summary", "curve": SUMMARY, "digest": one.digest}
    about = view.About(f"{one.experiment} ({one.tier}): summary", SUMMARY, SUMMARY, tags, config)
    started = begin(one.id, about, asked, folder)
    content: dict = {"picture": [wandb.Image(str(path), caption=path.stem) for path in one.pictures]}
    for name, (columns, rows) in one.tables.items():
        content[name] = wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
    started.log(content)
    artifact = wandb.Artifact(f"{one.experiment}-{one.tier}", type="experiment", metadata={"digest": one.digest})
    for path in one.files:
        artifact.add_file(str(path))
    started.log_artifact(artifact)
    started.finish()
