"""make dashboard: the archive, the summaries, the views and the report, in an empty project and again."""

import json
import shutil

import pytest

from dashboards import contents, publish
from dashboards.publish import Summary, summary
from runs import archive, table

from .helpers import ROOT
from .wandb_stub import ENTITY, Server

pytestmark = [pytest.mark.usefixtures("no_account"), pytest.mark.filterwarnings("ignore:Pydantic V1 style")]
RESULTS = ROOT / "results"


@pytest.fixture
def results(tmp_path):
    """Figure 2's archive with four of its runs, and what belongs to it."""
    folder = tmp_path / "results"
    (folder / "paper" / "archive").mkdir(parents=True)
    runs, epochs = archive.read(RESULTS / "paper" / "archive", "fig2")
    kept = [run for run in runs if run["seed"] in (0, 1) and run["optimizer"] == "powersgd"]
    ids = {run["run"] for run in kept}
    table.write(folder / "paper" / "archive" / "fig2-runs.csv", kept)
    table.write(folder / "paper" / "archive" / "fig2-epochs.csv", [row for row in epochs if row["run"] in ids])
    for name in ("figure2.png", "figure2.md"):
        shutil.copy(RESULTS / "paper" / name, folder / "paper")
    shutil.copy(RESULTS / "paper_reference.yaml", folder)
    return folder


def of(server: Server, start: str) -> dict:
    return {id: run for (_, _, id), run in server.runs.items() if id.startswith(start)}


def test_an_empty_project_gets_the_archive_the_paper_the_summary_the_views_and_the_report(results, server, capsys):
    pytest.importorskip("wandb_workspaces")
    assert publish.publish(results, None, None) == 0
    assert {place[:2] for place in server.runs} == {(ENTITY, "powersgd")}

    runs, epochs = archive.read(results / "paper" / "archive", "fig2")
    sent = of(server, "archive-")
    assert set(sent) == {f"archive-{run['run']}" for run in runs} and len(sent) == 4
    for run in runs:
        stored = sent[f"archive-{run['run']}"]
        rows = [row for row in epochs if row["run"] == run["run"]]
        assert [(row["epoch"], row["test/acc"]) for row in stored.rows] == [(r["epoch"], r["test_acc"]) for r in rows]
        config = {key: part["value"] for key, part in stored.config.items()}
        assert (config["seed"], config["lr"], config["origin"]) == (run["seed"], run["initial_lr"], "archive")
        assert config["commit_date"].startswith("2026-") and config["parameters"] == 927242
        assert {"paper", "fig2", "mnist", "archive"} <= set(stored.about["tags"])
        assert stored.about["jobType"] == "report" and stored.state == "finished"
        assert stored.summary["perf/total_seconds"] == run["seconds"]
    assert len({run.about["groupName"] for run in sent.values()}) == 2  # two lr, two seeds each

    paper = of(server, "paper-")
    assert {run.summary["train/last_acc"] for run in paper.values()} == {0.1124, 0.9891}

    (one,) = of(server, "summary-").values()
    (row,) = one.rows
    assert row["picture"]["count"] == 1 and row["claims"]["nrows"] == len(claims(results))
    assert any(name.endswith(".png") for name in one.files)
    (kept,) = [a for a in server.artifacts.values() if a.kind == "experiment"]
    assert kept.committed and {"fig2-runs.csv", "fig2-epochs.csv", "figure2.md"} <= set(kept.files)

    views = {view["displayName"]: json.loads(view["spec"]) for view in server.views.values()}
    assert set(views) == {"all tiers", "fig2 (paper)", "PowerSGD, reproduced"}
    text = json.dumps(views["PowerSGD, reproduced"])
    for verdict in claims(results):
        assert json.dumps(verdict.claim)[1:-1] in text and json.dumps(verdict.evidence)[1:-1] in text


def claims(results):
    return [one for one in publish.judge.judge(results, "paper", "fig2") if one.experiment == "fig2"]


def test_twice_is_once_and_what_was_deleted_comes_back(results, server, monkeypatch, capsys):
    pytest.importorskip("wandb_workspaces")
    publish.publish(results, None, None)
    runs, views = {place: dict(run.lines) for place, run in server.runs.items()}, dict(server.views)
    server.queries.clear()
    publish.publish(results, None, None)
    assert {place: run.lines for place, run in server.runs.items()} == runs
    assert set(server.views) == set(views) and "UpsertBucket" not in server.queries

    gone = next(place for place in server.runs if place[2].startswith("archive-"))
    server.runs[gone].deleted = True
    monkeypatch.setattr(publish, "INIT_SECONDS", 4.0)  # W&B itself asks again until then
    publish.publish(results, None, None)
    again = server.runs[(*gone[:2], f"{gone[2]}-2")]
    assert again.lines.keys() == runs[gone].keys() and again.state == "finished"


def test_a_run_of_one_s_own_is_not_sent_as_the_archive_s_too(results, server):
    one, *others = archive.read(results / "paper" / "archive", "fig2")[0]
    folder = results / "runs" / f"name-{one['run']}" / "wandb"
    folder.mkdir(parents=True)
    (folder / "id").write_text("mine\n")
    publish.backfill(results, publish.Wandb(project="p", entity=ENTITY), {})
    assert set(of(server, "archive-")) == {f"archive-{run['run']}" for run in others}


def test_a_run_that_could_not_be_started_is_tried_again_and_one_that_never_can_is_named(results, server, capsys):
    run, asked, tries = contents.archived(results)[0], publish.Wandb(project="p", entity=ENTITY), []

    def slow_at_first(folder) -> None:
        tries.append("slow")
        server.mute = len(tries) == 1
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(publish, "INIT_SECONDS", 1.0 if server.mute else 60.0)
                publish.send_archived(run, asked, folder)
        finally:
            server.mute = False

    def broken(folder) -> None:
        raise RuntimeError("no picture\nat all")

    assert publish.send("runs", {"one": slow_at_first}) == 0 and len(tries) == 2
    assert server.run.state == "finished" and len(server.run.lines) == len(run.rows)
    assert publish.send("runs", {"other": broken, "fine": lambda folder: None}) == 1
    assert capsys.readouterr().out.splitlines() == [
        "runs     1 of 1 sent", "runs     1 of 2 sent", "not sent: other: RuntimeError: no picture",
    ]  # fmt: skip


def test_a_server_that_is_gone_is_given_up_at_once_in_one_line(server, capsys, monkeypatch):
    monkeypatch.setattr(publish, "SILENCE", 0.2)
    tried = []

    def gone(folder) -> None:
        tried.append(folder)
        server.mute = True
        raise TimeoutError("init")

    assert publish.send("runs", {str(number): gone for number in range(50)}) == 50
    (_, line) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"not sent: 50 runs, since {server.url} does not answer") and len(tried) < 50


def test_without_an_account_it_says_what_to_do_and_leaves_with_2(results, capsys):
    assert publish.publish(results, None, None) == 2
    assert "wandb login" in capsys.readouterr().err


def test_the_whole_archive_can_be_told(monkeypatch):
    """Every run of git's archive has its experiments, its stage and its epochs."""
    found = {run.id: run for run in contents.archived(RESULTS)}
    ended = set()
    for tier, experiment in contents.experiments(RESULTS):
        for run in archive.read(RESULTS / tier / "archive", experiment)[0]:
            if run["state"] != archive.MISSING:
                ended.add(run["run"])
                assert experiment in found[run["run"]].about.tags
    assert ended == set(found) and all(run.rows for run in found.values())
    shared = [run for run in found.values() if {"fig5", "fig6"} <= set(run.about.tags)]
    assert len(shared) == 108
    tuned = [run.about for run in found.values() if "fig1ab" in run.about.tags]
    assert {about.job_type for about in tuned} == {"select", "refine", "report"}


def test_seeds_that_select_and_seeds_that_report_are_not_one_curve():
    tuned = [run.about for run in contents.archived(RESULTS) if "fig1ab" in run.about.tags]
    jobs: dict[str, set[str]] = {}
    for about in tuned:
        jobs.setdefault(about.config["curve"], set()).add(about.job_type)
    assert all(len(found) == 1 for found in jobs.values())


def test_a_summary_changes_with_its_content(results):
    before = summary(results, "paper", "fig2")
    assert before.digest == summary(results, "paper", "fig2").digest
    (results / "paper" / "figure2.md").write_text("another")
    assert before.digest != summary(results, "paper", "fig2").digest
    assert isinstance(before, Summary) and [path.name for path in before.pictures] == ["figure2.png"]


def test_the_views_that_the_documents_show_are_those_that_are_saved():
    pytest.importorskip("wandb_workspaces")
    from dashboards.views import example

    assert (ROOT / "docs" / "wandb-views.json").read_text() == example()  # python -m dashboards views


def test_a_view_opens_with_accuracies_and_ends_with_the_layers():
    pytest.importorskip("wandb_workspaces")
    from dashboards.views import figure, written

    found = written(figure("entity", "project", "paper", "fig2"))["spec"]["section"]
    sections = found["panelBankConfig"]["sections"]
    assert sections[0]["name"] == "curves" and sections[0]["panels"][0]["config"]["metrics"] == ["test/acc"]
    assert sections[-1]["name"] == "layers" and not sections[-1]["isOpen"]
    (runs,) = found["runSets"]
    filters = {(f["key"]["name"], str(f["value"])) for f in runs["filters"]["filters"]}
    assert filters == {("tags", "['fig2']"), ("tier", "paper")}
    assert [key["name"] for key in runs["grouping"]] == ["curve.value"]
