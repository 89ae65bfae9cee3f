"""The report: whole on its own, with every claim and figure, and honest about what was not run."""

import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from analysis.claims import judge as claims
from analysis.claims.schema import Archive
from analysis.tables import markdown
from report import page as report
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


@pytest.fixture
def written(results, monkeypatch):
    monkeypatch.setattr("sys.argv", ["report", "--tier", "paper", "--results", str(results)])
    report.main()
    return results / "paper" / "report.html", results / "paper" / "REPORT.md"


def test_the_page_needs_nothing_else_and_no_id_stands_twice(written):
    page = written[0].read_text()
    reader = Reader()
    reader.feed(page)
    assert reader.open == [] and reader.external == []
    assert len(reader.ids) == len(set(reader.ids)) > 10
    for target in re.findall(r'xlink:href="#([^"]+)"|url\(#([^)]+)\)', page):
        assert (target[0] or target[1]) in reader.ids


def test_every_figure_and_every_claim_is_there(written, results):
    page, text = (path.read_text() for path in written)
    names = [
        path.stem for path in [*results.glob("paper/*.svg"), *results.glob("*.svg"), *results.glob("theory/*.svg")]
    ]
    assert "figure2" in names and "figure3" in names and len(names) >= 4
    for name in names:
        assert f"<figure id='{name}'>" in page and f"![{name}]" in text
        assert f"<figcaption>{name}. </figcaption>" not in page  # each says what it shows
        (link,) = re.findall(rf"!\[{name}\]\((.*?)\)", text)
        assert (written[1].parent / link).exists()
    for claim in ("theorem A.1", "PowerSGDR", "no extra memory", "tier paper", "before (", "after ("):
        assert claim in page and claim in text


def test_what_is_missing_is_named_with_its_cost(results, monkeypatch):
    costs = {"experiments": {"fig1ij": {"missing": 100, "hours": 1.5e6, "gpu_hours": 5307.1}}}
    write_json(results / "paper" / "costs.json", costs)
    header, lines = report.not_run_table(results, "paper")
    assert lines == [["fig1ij", "100", "1,500,000 hours", "5,307 hours"]] and "assumed" in header[-1]
    texts = {tier: {claim.evidence for claim in claims.everything(results, tier) if claim.experiment == "fig1ij"}
             for tier in ("paper", "laptop")}  # fmt: skip
    assert texts["paper"] == {"no run; fig1ij: 1,500,000 hours of this machine, 5,307 hours of a GPU"}
    assert texts["laptop"] == {"no run; fig1ij: there is no tier laptop, 5,307 hours of a GPU at the paper's scale"}
    (figure2,) = {claim.evidence for claim in claims.everything(results, "laptop") if claim.experiment == "fig2"}
    assert figure2 == "no run; fig2 was run at the paper's scale, see tier paper"
    (results / "paper" / "costs.json").unlink()
    assert "plan=true archive=true tier=paper" in report.not_run_table(results, "paper")[0][1]


def test_the_papers_numbers_stand_beside_not_run_and_never_as_ours(results):
    shutil.rmtree(results / "paper" / "archive")
    _, lines = report.reference_table(results, "paper")
    assert len(lines) == 5 * 6 + 2 * 2 + 2 * 2 + 2 and {line[-1] for line in lines} == {"not run"}
    assert {"0.9475", "0.7627", "in the picture only"} <= {line[-2] for line in lines}
    _, gaps = report.gaps_table(results, "paper")
    assert ["cifar10", "resnet50", "Adam", "+0.0137", "not run"] in gaps and {line[-1] for line in gaps} == {"not run"}


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
    lines = report.gaps_table(results, "laptop")[1]
    assert lines[0][:4] == ["cifar10", "resnet50", "PowerSGD", "+0.0058"] and lines[1][4] == "not run"
    half = 2.5706 * math.sqrt((0.01 * 2 + 0.02 / 3 * 3) / 5 * (1 / 3 + 1 / 4))  # 0.01 and 0.00667, 2 and 3 df
    assert lines[0][4].startswith(f"+0.1000 [{0.1 - half:+.4f}, {0.1 + half:+.4f}] over 3 to 4 seeds (sd ")


def test_the_headline_table_of_the_readme_says_what_the_records_say():
    text = (ROOT / "README.md").read_text().split("## What holds so far")[1].split("\n## ")[0]
    for tier, part in zip(("paper", "short"), text.split("at the short tier"), strict=True):
        found = {}
        for verdict in claims.everything(ROOT / "results", tier):
            found.setdefault(verdict.claim, []).append(verdict)
        lines = re.findall(r"^\| (.*) \| (.*) \| (.*) \|$", part, re.MULTILINE)[2:]
        assert len(lines) >= 6
        for claim, verdict, evidence in lines:
            judged = found[claim.replace("\\|", "|")]
            assert {verdict} <= {one.verdict for one in judged} <= {verdict, "not run"}, claim
            assert any(evidence in one.evidence for one in judged if one.verdict == verdict), claim


def test_the_reports_in_git_say_what_the_records_say():
    reports = [path for path in (ROOT / "results").glob("*/REPORT.md") if path.parent.name != "smoke"]
    assert reports
    for path in reports:
        for table in (report.verdict_table, report.reference_table, report.gaps_table):
            assert markdown(*table(ROOT / "results", path.parent.name)) in path.read_text(), path


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium (Debian: apt install chromium)")
def test_a_browser_shows_it_without_errors_and_without_sideways_scrolling(written, tmp_path):
    """At the width of a telephone: wide tables scroll in their own box, the page does not."""
    page = written[0].read_text()
    script = ("<script>onerror = e => { document.title = 'error ' + e };"
              "onload = () => { document.title = [document.documentElement.scrollWidth, innerWidth,"
              " document.querySelectorAll('figure svg').length].join(' ') }</script>")  # fmt: skip
    tried = tmp_path / "tried.html"
    tried.write_text(page.replace("</head>", f"{script}</head>"))
    frame = tmp_path / "frame.html"  # a window is never narrower than some 500 pixels, a frame may be
    frame.write_text(f"<iframe src='{tried.name}' style='width:390px;height:800px;border:0'></iframe>"
                     "<script>onload = () => setTimeout(() => { document.title = "
                     "frames[0].document.title }, 500)</script>")  # fmt: skip
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
               "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    (title,) = re.findall("<title>(.*?)</title>", done.stdout)
    width, window, figures = map(int, title.split())
    assert window == 390 and width <= window, "the page scrolls sideways"
    assert figures == page.count("<figure ") >= 4
    assert "CONSOLE" not in done.stderr, done.stderr
