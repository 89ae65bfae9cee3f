# pyright: reportMissingImports=false
# wandb-workspaces is not among the requirements.
"""The report on W&B: the paper's claims with their verdicts, evidence and pictures. Needs wandb-workspaces."""

import contextlib
from pathlib import Path

import wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces.expr import And
from wandb_workspaces.workspaces import internal

from analysis.claims import judge
from dashboards.contents import experiments
from dashboards.views import curves, pictures
from report.tables import WARNING

TITLE = "PowerSGD, reproduced"


def report(results: Path, entity: str, project: str) -> wr.Report:
    """A chapter for each experiment: its verdicts, then the pictures and curves of its runs in this project."""
    blocks: list = [wr.TableOfContents()]
    for tier, experiment in experiments(results):
        verdicts = [one for one in judge.judge(results, tier, experiment) if one.experiment == experiment]
        runs = wr.Runset(
            entity, project, f"{experiment} ({tier})",
            filters=And(ws.Tags().isin([experiment]), ws.Config("tier") == tier), groupby=["config.curve"],
        )  # fmt: skip
        panels = [
            pictures(),
            curves("test/acc"),
            curves("train/loss"),
        ]
        blocks += [wr.H1(f"{experiment} ({tier})"), wr.P(WARNING.get(tier, ""))]
        for one in verdicts:
            blocks += [wr.H3(f"{one.verdict}: {one.claim}"), wr.P(f"{one.place}. {one.evidence}")]
            blocks += [wr.P(f"Strongest objection: {one.objection}")] if one.objection else []
        blocks.append(wr.PanelGrid(runsets=[runs], panels=panels))
    description = "Every claim of the paper with its verdict, its evidence and its picture."
    return wr.Report(project, entity, TITLE, description, blocks, width="fluid")


def save(one: ws.Workspace | wr.Report) -> str:
    """Save a view or the report, replacing the one with the same name in the project; returns its URL."""
    if isinstance(one, ws.Workspace):
        with contextlib.suppress(ValueError):  # not there yet
            one._internal_id = internal.View.from_name(one.entity, one.project, one._internal_name).id
        return one.save().url
    for found in wandb.Api().reports(f"{one.entity}/{one.project}"):
        if found.display_name == one.title:
            one.id = found.id
    return one.save().url
