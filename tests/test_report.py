"""The report: whole on its own, with every claim and figure, and honest about what was not run."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from figures import report

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
        (link,) = re.findall(rf"!\[{name}\]\((.*?)\)", text)
        assert (written[1].parent / link).exists()
    for claim in ("theorem A.1", "PowerSGDR", "no extra memory", "tier paper"):
        assert claim in page and claim in text


def test_what_is_missing_is_named_with_its_cost(results, monkeypatch):
    costs = [{"experiment": "fig1ij", "missing": 100, "hours": 1.5e6, "gpu_hours": 5307.1}]
    (results / "paper" / "costs.json").write_text(json.dumps(costs))
    header, lines = report.not_run_table(results, "paper")
    assert lines == [["fig1ij", "100", "1,500,000.0", "5,307.1"]] and "assumed" in header[-1]
    (results / "paper" / "costs.json").unlink()
    assert "plan=true tier=paper" in report.not_run_table(results, "paper")[0][1]


def test_the_papers_numbers_stand_beside_not_run_and_never_as_ours(results):
    shutil.rmtree(results / "paper" / "archive")
    _, lines = report.reference_table(results, "paper")
    assert len(lines) == 18 and {line[-1] for line in lines} == {"not run"}
    assert {"0.9475", "0.7627", "in the picture only"} <= {line[-2] for line in lines}
