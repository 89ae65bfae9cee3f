# pyright: reportMissingImports=false
# wandb-workspaces is not among the requirements.
"""The saved views of a W&B project: one for each experiment of each tier, and an overview. Needs wandb-workspaces.

docs/wandb.md describes them; docs/wandb-views.json has them as W&B gets them.
"""

import json
from pathlib import Path
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces.expr import And

from dashboards.contents import experiments

EARLY = 5  # epochs
BEST = "test/best_acc"


def example() -> str:
    """The overview and the view of figure 2 as JSON; the other views differ from the latter only in names."""
    shown = [overview("entity", "powersgd"), figure("entity", "powersgd", "paper", "fig2")]
    return json.dumps([written(one) for one in shown], indent=1) + "\n"


def written(one: ws.Workspace) -> dict:
    """A view as W&B gets it, without the ids that change every time."""
    return _without_ids(one._to_model().model_dump(by_alias=True, exclude_none=True, mode="json"))


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_ids(part) for key, part in value.items() if key not in ("__id__", "id")}
    return [_without_ids(part) for part in value] if isinstance(value, list) else value


def views(results: Path, entity: str, project: str) -> list[ws.Workspace]:
    """Every view, the overview first; each has its own name, so that saving it again replaces it."""
    found = [overview(entity, project)]
    return found + [figure(entity, project, tier, name) for tier, name in experiments(results)]


def figure(entity: str, project: str, tier: str, experiment: str) -> ws.Workspace:
    """Curves by setting with intervals over seeds, early epochs, the grid, tables; last, folded, the layers."""
    sections = [
        section("curves", [curves(name) for name in ("test/acc", "train/acc", "train/loss", "test/loss")], open=True),
        section(f"first {EARLY} epochs", [curves(name, EARLY) for name in ("train/acc", "test/acc", "train/loss")]),
        section("best and grid", [best("optimizer"), best("origin"), grid()], open=True),
        section("claims, selection, pictures", [table("claims"), table("selection"), pictures()], open=True),
        section("optim", [curves(name) for name in ("optim/lr", "optim/grad_norm1", "optim/powered_norm1")]),
        section("perf", [curves(f"perf/{name}") for name in ("images_per_second", "seconds", "memory_gb")]),
        section("layers", [wr.LinePlot(title="layers", x="epoch", metric_regex="layers/.*")]),
    ]
    filters = And(ws.Tags().isin([experiment]), ws.Config("tier") == tier)
    return view(entity, project, f"{experiment} ({tier})", sections, filters, [ws.Config("curve")])


def overview(entity: str, project: str) -> ws.Workspace:
    sections = [
        section("claims", [table("claims")], open=True),
        section("best test accuracy", [best("optimizer"), best("tier"), best("dataset")], open=True),
        section("every setting", [grid(), wr.ScatterPlot(title="epochs to 95 % of the best", x=wr.SummaryMetric(
            "test/epochs_to_95_percent"), y=wr.SummaryMetric(BEST))]),
        section("pictures", [pictures()]),
    ]  # fmt: skip
    return view(
        entity, project, "all tiers", sections, And(ws.Config("origin").isin(["archive", "summary", "paper"])), []
    )


def view(entity: str, project: str, name: str, sections: list, filters: And, groupby: list) -> ws.Workspace:
    found = ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=100, remove_legends_from_panels=False),
        runset_settings=ws.RunsetSettings(
            filters=filters,
            groupby=groupby,
            order=[ws.Ordering(ws.Summary(BEST), ascending=False)],
            pinned_columns=["summary:test/best_acc", "summary:test/best_epoch", "summary:test/epochs_to_95_percent",
                            "summary:train/last_acc", "summary:state"],
        ),
    )  # fmt: skip
    found._internal_name = f"nw-{''.join(c for c in name.lower() if c.isalnum())}-v"
    return found


def section(name: str, panels: list, open: bool = False) -> ws.Section:
    return ws.Section(name=name, panels=panels, is_open=open)


def curves(metric: str, epochs: int | None = None) -> wr.LinePlot:
    """Mean over the runs of a group, with the standard error of that mean."""
    return wr.LinePlot(
        title=metric, x="epoch", y=[metric], range_x=(0 if epochs else None, epochs), log_y=metric.endswith("norm1"),
        groupby_aggfunc="mean", groupby_rangefunc="stderr", smoothing_factor=0, max_runs_to_show=100,
    )  # fmt: skip


def best(by: str) -> wr.BarPlot:
    metric, key = wr.SummaryMetric(BEST), wr.Config(by)
    return wr.BarPlot(title=f"best test accuracy by {by}", metrics=[metric], groupby=key, max_runs_to_show=100)


def grid() -> wr.ParallelCoordinatesPlot:
    """lr and gamma of every setting, and what it reaches."""
    column = wr.ParallelCoordinatesPlotColumn
    columns = [column(wr.Config("optimizer")), column(wr.Config("lr"), log=True), column(wr.Config("gamma"))]
    columns += [column(wr.Config("depth")), column(wr.SummaryMetric("train/best_acc")), column(wr.SummaryMetric(BEST))]
    return wr.ParallelCoordinatesPlot(title="settings", columns=columns)


def table(name: str) -> wr.WeavePanelSummaryTable:
    """A table of the experiment's summary run."""
    return wr.WeavePanelSummaryTable(table_name=name)


def pictures() -> wr.MediaBrowser:
    return wr.MediaBrowser(title="as the repository draws it", media_keys=["picture"])
