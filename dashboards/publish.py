"""`make dashboard`: the archive's runs, a summary run an experiment, the views and the report, in somebody's project.

Twice is once: a run that is there is left alone, a summary is sent again if its content changed, views and report are
replaced under their own names. A run that was deleted in the project comes back under another id.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from analysis.claims import judge
from dashboards.contents import Archived, archived, experiments, paper_values
from runs import table
from runs.schema import Wandb
from training import view
from training.wandb_session import chosen_mode, project, start, wandb_module

AT_ONCE = 8
IDS = 5  # how often a run is given another id
PATIENCE = {"init_seconds": 20.0, "finish_seconds": 300.0}


def publish(results: Path, to_project: str | None, entity: str | None) -> int:
    """Bring the project up to date with the results; returns the exit status."""
    mode, why = chosen_mode("online")
    if mode != "online":
        print(f"error: a dashboard needs a W&B account: {why}", file=sys.stderr)
        return 2
    asked = Wandb(project=to_project, entity=entity)
    wandb = wandb_module()
    asked.project = project(asked)
    asked.entity = asked.entity or wandb.setup().settings.entity or wandb.Api().default_entity
    there = published(asked)
    count = backfill(results, asked, there)
    print(f"archive  {count} runs sent, {len(there)} were there")
    summaries = [summary(results, tier, name) for tier, name in experiments(results)]
    changed = [one for one in summaries if there.get(one.id) != one.digest]
    send(changed, lambda one, folder: send_summary(one, asked, folder))
    print(f"summary  {len(changed)} of {len(summaries)} sent")
    from dashboards.report import report, save
    from dashboards.views import views

    for one in [*views(results, asked.entity, asked.project), report(results, asked.entity, asked.project)]:
        print(f"saved    {save(one)}")
    return 0


def published(asked: Wandb) -> dict[str, str]:
    """What of ours the project has already: of each whole run its `run`, and the digest of its content."""
    api = wandb_module().Api()
    try:
        runs = api.runs(f"{asked.entity}/{asked.project}", filters={"tags": {"$in": [ARCHIVE, PAPER, SUMMARY]}},
                        per_page=500, lazy=False)  # fmt: skip
        return {run.config["run"]: run.config.get("digest", "") for run in runs if run.state == "finished"}
    except (ValueError, wandb_module().errors.CommError):  # no such project yet
        return {}


ARCHIVE, PAPER, SUMMARY = "archive", "the paper", "summary"


def backfill(results: Path, asked: Wandb, there: Iterable[str]) -> int:
    """Send the archive's runs and the paper's values that the project lacks; returns how many.

    Runs that this machine has trained and logged itself are there as its own.
    """
    own = {path.parent.parent.name.rsplit("-", 1)[-1] for path in results.glob("runs/*/wandb/id")}
    runs = [run for run in archived(results) if run.id not in there and run.id not in own]
    values = [value for value in paper_values(results) if value[0] not in there]
    send(runs, lambda run, folder: send_archived(run, asked, folder))
    send(values, lambda value, folder: send_value(*value, asked, folder))
    return len(runs) + len(values)


def send(things: list, one: Callable[[Any, Path], None]) -> None:
    """Several at once; W&B's own files of it are not kept."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda thing: one(thing, Path(folder)), things))


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


def begin(id: str, about: view.About, asked: Wandb, folder: Path):
    for number in range(1, IDS + 1):
        try:
            return start(about, id if number == 1 else f"{id}-{number}", "online", folder, asked, **PATIENCE)
        except Exception as error:
            if "409" not in str(error) or number == IDS:
                raise


class Summary:
    """An experiment's results as one run: pictures, tables, and the files they were made from."""

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
