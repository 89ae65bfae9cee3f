"""The report: self-contained, with every claim and figure, and honest about what was not run."""

import math
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from markupsafe import escape

from analysis.claims import judge as claims
from analysis.claims.schema import Archive, Interval
from analysis.style import captions
from analysis.tables import markdown
from report import claims as shown
from report import page, tables
from report.__main__ import main
from report.readme import PAPER, REDUCED, refreshed
from report.runs import places
from runs.files import write_json

ROOT = Path(__file__).resolve().parent.parent


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids, self.external, self.open = [], [], []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        self.external += [given[key] for key in ("src", "href") if key in given and not given[key].startswith("#")]
        if tag not in ("meta", "link", "br", "img", "input", "hr"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.ids += [value for key, value in attributes if key == "id"]

    def handle_endtag(self, tag):
        while self.open and self.open[-1] in ("p", "td", "th", "tr", "li"):  # their end may be left out
            if self.open[-1] == tag:
                break
            self.open.pop()
        assert self.open and self.open.pop() == tag


@pytest.fixture
def results(tmp_path):
    shutil.copytree(ROOT / "results", tmp_path / "results", ignore=shutil.ignore_patterns("runs", ".*"))
    return tmp_path / "results"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of results after `python -m report`."""
    folder = tmp_path_factory.mktemp("report") / "results"
    shutil.copytree(ROOT / "results", folder, ignore=shutil.ignore_patterns("runs", ".*", "*.png"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["report", "--results", str(folder)])
        main()
    return folder


@pytest.fixture(scope="module")
def verdicts():
    return {tier: claims.everything(ROOT / "results", tier) for tier in ("paper", "laptop", "short")}


def test_the_page_needs_nothing_else_and_no_id_stands_twice(written):
    text = (written / "report.html").read_text()
    assert len(text.encode()) < 3_000_000
    reader = Reader()
    reader.feed(text)
    assert reader.open == [] and [link for link in reader.external if not link.startswith("data:")] == []
    assert len(reader.ids) == len(set(reader.ids)) > 100
    for target in re.findall(r'(?:xlink:href="#|url\(#|href="#)([^")]+)', text):
        assert target in reader.ids


def test_every_figure_and_every_claim_is_there_with_an_id_that_stays(written, verdicts):
    text = (written / "report.html").read_text()
    for tier in verdicts:
        report = (written / tier / "REPORT.md").read_text()
        for path in [*written.glob(f"{tier}/*.svg"), *written.glob("*.svg"), *written.glob("theory/*.svg")]:
            name = f"{tier if path.parent.name == tier else 'any'}-{path.stem}"
            assert f'<figure id="{name}">' in text
            alt = captions(path.parent)[path.stem]["alt"]
            assert len(alt) > 40 and str(escape(alt)) in text and f"![{alt}]" in report
        for found in verdicts[tier]:
            assert text.count(f'<article class=claim id="{found.key}"') == 1, found.key
            assert markdown([], [found.row()]).splitlines()[-1] in report
    assert list(claims.read()) and set(claims.read()) <= {found.key for found in verdicts["paper"]}


def test_a_claim_has_its_verdicts_at_both_tiers_side_by_side(verdicts):
    entries = shown.merged(verdicts)
    (one,) = [entry for entry in entries if entry.key == "fig5-small-lr"]
    assert [*one.missing, *one.judged] == ["paper", "laptop", "short", "short"]
    assert one.experiments == ["fig5"] and one.figure == "5"
    (cell,) = [cell for cell in one.cells if cell.runs]
    assert (cell.tier, cell.fixed, cell.commit) == ("short", "before", "83cc9134c806") and len(cell.bars) == 1
    assert one.test.startswith("A signed sum of cells") and ("between", "above 0.05") in one.arguments
    theorems = [entry for entry in entries if entry.key == "theorem-A.1"]
    assert [len(entry.cells) for entry in theorems] == [1] and theorems[0].figure == "theory"
    assert sum(shown.counts(entries).values()) >= len(entries)


def test_an_interval_lies_on_its_track_where_its_numbers_say():
    first = Interval("a", "reproduced", 2.0, 1.0, 3.0, (0.0, None), ".1f")
    second = Interval("b", "not reproduced", 4.0, 4.0, 4.0, (None, 5.0), ".1f")
    bars, bounds = shown.track([first, second])
    at = {value: round(100 * (value + 0.3) / 5.6, 2) for value in range(6)}  # from 0 to 5, and 6 % room at each end
    assert (bars[0].left, bars[0].dot, bars[1].width) == (at[1], at[2], 0)
    assert bars[0].width == pytest.approx(at[3] - at[1]) and bars[0].text == "2.0 [1.0, 3.0]"
    assert bars[0].holds == (at[0], pytest.approx(100 - at[0])) and bars[1].holds == (0, at[5])
    assert bounds == [(at[0], "0"), (at[5], "5.0")]
    alone = Interval("", "", 1.0, 1.0, 1.0, (None, None), "g")
    assert shown.track([alone])[0][0].dot == 50 and shown.track([]) == ([], [])


def test_a_place_in_the_paper_says_what_it_is():
    spelled = [shown.place(section) for section in ("4.2; 0.49 points", "C, figure 3", "abstract", "not in the paper")]
    assert spelled == ["Section 4.2; 0.49 points", "Appendix C, figure 3", "abstract", "not in the paper"]


def test_runs_are_named_by_their_places():
    assert places(("c", "a", "b", "e"), ["a", "b", "c", "d", "e"]) == "0-2 4" and places((), ["a"]) == ""


def test_no_text_of_a_claim_or_a_run_ends_the_script_or_opens_a_tag(results, verdicts):
    nasty = "</script><b>x"
    found = [replace(one, claim=nasty, objection=nasty) for one in verdicts["paper"][:2]]
    text = page.page(results, {"paper": found})
    assert nasty not in text and "&lt;/script&gt;&lt;b&gt;x" in text
    assert page._json({"of": {"shared": {"x": nasty}}}).count("</") == 0


def test_what_is_missing_is_named_with_its_cost(results, monkeypatch):
    costs = {"experiments": {"fig1ij": {"missing": 100, "hours": 1.5e6, "gpu_hours": 5307.1},
                             "fig4_sgd": {"missing": 9, "hours": 3, "gpu_hours": 1}}}  # fmt: skip
    write_json(results / "paper" / "costs.json", costs)
    header, lines = tables.not_run_table(results, "paper")
    assert lines[0] == ["fig1ij", "100", "1,500,000 hours", "5,307 hours"] and "assumed" in header[-1]
    texts = {tier: {claim.evidence for claim in claims.everything(results, tier) if claim.experiment == "fig1ij"}
             for tier in ("paper", "laptop")}  # fmt: skip
    assert texts["paper"] == {"no run; fig1ij: 1,500,000 hours of this machine, 5,307 hours of a GPU"}
    assert texts["laptop"] == {"no run; fig1ij: there is no tier laptop, 5,307 hours of a GPU at the paper's scale"}
    (figure2,) = {claim.evidence for claim in claims.everything(results, "laptop") if claim.experiment == "fig2"}
    assert figure2 == "no run; fig2 was run at the paper's scale, see tier paper"
    partly = {claim.evidence for claim in claims.everything(results, "laptop") if claim.experiment == "fig4_sgd"}
    assert partly == {"no run; fig4_sgd was run in part at the paper's scale, see tier paper"}
    (results / "paper" / "costs.json").unlink()
    assert "plan=true archive=true tier=paper" in tables.not_run_table(results, "paper")[0][1]


def test_the_papers_numbers_stand_beside_not_run_and_never_as_ours(results):
    shutil.rmtree(results / "paper" / "archive")
    _, lines = tables.reference_table(results, "paper")
    assert len(lines) == 5 * 6 + 2 * 2 + 2 * 2 + 2 and {line[-1] for line in lines} == {"not run"}
    assert {"0.9475", "0.7627", "in the picture only"} <= {line[-2] for line in lines}
    _, gaps = tables.gaps_table(results, "paper")
    assert ["cifar10", "resnet50", "Adam", "+0.0137", "not run"] in gaps and {line[-1] for line in gaps} == {"not run"}


def test_the_papers_warm_restarts_stand_beside_these_and_not_beside_one_cosine(results, monkeypatch):
    tops = {"powersgd": ("step", 0.5), "powersgdr": ("warm_restarts", 0.6), "powersgd-cosine": ("warm_restarts", 0.9)}
    ours = pd.DataFrame([{"label": label, "optimizer": "powersgd", "schedule": schedule, "stage": "report", "epoch": 1,
                          "test_acc": top, "run": f"{label}{seed}", "dataset": "cifar10", "model": "resnet50"}
                         for label, (schedule, top) in tops.items() for seed in range(3)])  # fmt: skip
    real = tables.epochs_of
    monkeypatch.setattr(tables, "epochs_of", lambda *about: ours if about[-1] == "fig7" else real(*about))
    _, lines = tables.reference_table(results, "laptop")
    assert [line[-1] for line in lines[-2:]] == ["0.5000 [0.5000, 0.5000], 3 seeds", "0.6000 [0.6000, 0.6000], 3 seeds"]


def test_a_gap_is_of_the_best_epochs_and_unpaired(results, monkeypatch):
    best = {"sgdm": (0.9, 0.8, 0.7), "powersgd": (0.8, 0.6, 0.7, 0.7)}
    runs = pd.DataFrame([{"label": label, "seed": seed, "run": f"{label}{seed}", "stage": "report"}
                         for label, values in best.items() for seed in range(len(values))])  # fmt: skip
    epochs = pd.DataFrame([{"run": f"{label}{seed}", "epoch": epoch, "test_acc": value}
                           for label, values in best.items() for seed, top in enumerate(values)
                           for epoch, value in enumerate((0.1, top, 0.5), 1)])  # fmt: skip
    empty = Archive("laptop", "fig1cd", runs[:0], epochs[:0])
    monkeypatch.setattr(Archive, "load", classmethod(lambda cls, results, tier, experiment: (
        Archive(tier, experiment, runs, epochs) if experiment == "fig1ab" else empty)))  # fmt: skip
    lines = tables.gaps_table(results, "laptop")[1]
    assert lines[0][:4] == ["cifar10", "resnet50", "PowerSGD", "+0.0058"] and lines[1][4] == "not run"
    half = 2.5706 * math.sqrt((0.01 * 2 + 0.02 / 3 * 3) / 5 * (1 / 3 + 1 / 4))  # 0.01 and 0.00667, 2 and 3 df
    assert lines[0][4].startswith(f"+0.1000 [{0.1 - half:+.4f}, {0.1 + half:+.4f}] over 3 to 4 seeds (sd ")


def test_the_readme_is_a_screen_long_and_says_what_the_records_say(verdicts):
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    assert text == refreshed(text, ROOT / "results", verdicts), "run `make report`"
    told = {one.key: one.claim.replace("|", "\\|") for found in verdicts.values() for one in found}
    for key in (*PAPER, *REDUCED):
        assert told[key] in text, key
    for path in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / path).exists(), path


def test_the_reports_in_git_say_what_the_records_say(written, verdicts):
    for name in ("report.html", *(f"{tier}/REPORT.md" for tier in verdicts)):
        assert (ROOT / "results" / name).read_text() == (written / name).read_text(), f"{name}: run `make report`"
