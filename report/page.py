"""One page for all tiers: figures with their claims, the paper's numbers beside ours, and the runs behind each verdict.

It is a single file that works without a network or a build step, under 3 MB.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from markupsafe import Markup

from analysis import costs, style
from analysis.claims.judge import Verdict
from analysis.claims.schema import Interval
from analysis.statistics import t_interval
from runs import sums
from runs.files import DamagedFile

from . import tables
from .claims import MARKS, ORDER, Bar, Entry, counts, merged, track
from .runs import COLUMNS, of_experiment, places

HERE = Path(__file__).parent
TITLES = {
    "1": "Figure 1: the optimizers compared on images",
    "2": "Figure 2: a network of 13 layers on MNIST",
    "3": "Figure 3: how much the Powerball function amplifies",
    "4": "Figure 4: which depths train",
    "5": "Figure 5: test accuracy by γ and learning rate",
    "6": "Figure 6: train loss by γ and learning rate",
    "7": "Figure 7: warm restarts",
    "theory": "The theorems",
    "": "Beyond the figures",
}
TIERS = {"paper": "the paper's scale", "laptop": "laptop", "short": "15 epochs", "smoke": "smoke"}
FIXED = {"before": "fixed before its runs", "after": "fixed after its runs", "no run yet": "fixed, no run yet",
         "not known": "fixed: not known"}  # fmt: skip


@dataclass
class Picture:
    name: str
    tier: str  # empty: of none
    caption: str
    svg: Markup


@dataclass
class Row:
    """A number stated in the paper, and ours at each tier."""

    about: list[str]
    paper: str
    bars: list[Bar | None]  # by tier
    mark: float | None  # position of the paper's number on the track


@dataclass
class Section:
    key: str
    title: str
    first: list[Picture] = field(default_factory=list)
    more: list[Picture] = field(default_factory=list)
    stated: list[Row] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    further: list[tuple[str, tables.Table]] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        return f"figure-{self.key}" if self.key.isdigit() else self.key or "beyond"

    @property
    def judged(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.run]

    @property
    def not_run(self) -> dict[str, list[Entry]]:
        """The claims not run, by the experiment that would judge them."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            if not entry.run:
                found.setdefault(", ".join(entry.experiments), []).append(entry)
        return found


def page(results: Path, verdicts: dict[str, list[Verdict]]) -> str:
    """The page for these tiers, from the verdicts of each."""
    tiers, entries = list(verdicts), merged(verdicts)
    sections = {key: Section(key, title) for key, title in TITLES.items()}
    for entry in entries:
        sections[entry.figure].entries.append(entry)
    for picture in pictures(results, tiers):
        section = sections[_figure(picture.name)]
        (section.first if re.fullmatch(r"figure\d[a-z]?|theory", picture.name) else section.more).append(picture)
    for key, rows in stated(results, tiers).items():
        sections[key].stated = rows
    for tier in tiers:
        for title, table in (("How far below SGDM", tables.gaps_table(results, tier)),
                             ("At an equal budget of settings", tables.fairness_table(results, tier)),
                             ("Settings that were chosen", tables.selection_table(results / tier))):  # fmt: skip
            if table[1]:
                sections["1"].further.append((f"{title}, {TIERS.get(tier, tier)}", table))
    about = [(f"{title}, {TIERS.get(tier, tier)}", make(results, tier)) for tier in tiers for title, make in (
        ("Where it comes from", tables.provenance_table), ("Not run", tables.not_run_table))]  # fmt: skip
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)  # fmt: skip
    runs = evidence(results, tiers, entries)
    return environment.get_template("page.html").render(
        sections=[section for section in sections.values() if section.entries or section.first],
        tiers={tier: TIERS.get(tier, tier) for tier in tiers}, counts=counts(entries), marks=MARKS, order=ORDER,
        fixed=FIXED, warnings=tables.WARNING, about=about, runs=_json(runs), places=_places(runs),
        price=lambda experiment: prices(results, tiers, experiment), css=_file("page.css"), js=_file("page.js"),
    )  # fmt: skip


def _file(name: str) -> Markup:
    return Markup((HERE / name).read_text())


def pictures(results: Path, tiers: list[str]) -> list[Picture]:
    """The pictures of every tier, of no tier (figure 3), and of the theorems, as SVG with ids unique on the page."""
    found = []
    for tier, folder in [*((tier, results / tier) for tier in tiers), ("", results), ("", results / "theory")]:
        about = style.captions(folder)
        for path in sorted(folder.glob("*.svg")):
            words = about.get(path.stem, {"caption": path.stem, "alt": path.stem})
            svg = inline(path, f"{tier}-{path.stem}", words["alt"])
            found.append(Picture(path.stem, tier, words["caption"], svg))
    return found


def inline(path: Path, prefix: str, alt: str) -> Markup:
    """An SVG for the page; its ids get the prefix, since they must be unique there. Raises DamagedFile."""
    _, start, svg = sums.read(path).decode(errors="replace").partition("<svg")
    if not svg.endswith("</svg>\n"):
        raise DamagedFile(f"{path} is damaged (it is no whole SVG); draw it again")
    svg = start + svg
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda one: f' id="{prefix}-{one[1]}"' if one[1] in used else "", svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r' d="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]).replace("\n", ""), svg)
    return Markup(svg.replace("<svg", Markup('<svg role="img" aria-label="{}"').format(alt), 1))


def _figure(name: str) -> str:
    """The section that a picture belongs to."""
    number = re.match(r"(?:figure|fairness-fig)(\d)", name)
    return number[1] if number else "theory" if name in ("theory", "steps") else ""


def stated(results: Path, tiers: list[str]) -> dict[str, list[Row]]:
    """By figure: the paper's numbers and ours, with one axis for each figure."""
    found: dict[str, list[Row]] = {}
    columns = [tables.stated(results, tier) for tier in tiers]
    for figure in dict.fromkeys(one.figure for one in columns[0]):
        rows = [row for row in zip(*columns, strict=True) if row[0].figure == figure]
        given = [Interval("paper", "", row[0].paper, row[0].paper, row[0].paper, (None, None), ".4f")
                 for row in rows if row[0].paper is not None]  # fmt: skip
        ours = [Interval("", "", *t_interval(one.here), (None, None), ".4f") for row in rows for one in row if one.here]
        bars = iter(track([*given, *ours])[0])
        marks = [next(bars).dot if row[0].paper is not None else None for row in rows]
        found[figure] = [
            Row([row[0].dataset, row[0].network, row[0].optimizer, f"{row[0].accuracy}; {row[0].section}"],
                tables.paper_value(row[0]), [next(bars) if one.here else None for one in row], mark)
            for row, mark in zip(rows, marks, strict=True)
        ]  # fmt: skip
    return found


def evidence(results: Path, tiers: list[str], entries: list[Entry]) -> dict[str, dict]:
    """The runs of each archive that a claim rests on, by "tier/experiment"."""
    wanted = dict.fromkeys((cell.tier, cell.experiment) for entry in entries for cell in entry.cells if cell.runs)
    found = {f"{tier}/{experiment}": of_experiment(results, tier, str(experiment)) for tier, experiment in wanted}
    return {name: runs for name, runs in found.items() if runs}


def _places(runs: dict[str, dict]):
    ids = {name: [row[0] for row in one["runs"]] for name, one in runs.items()}
    return lambda cell: places(cell.runs, ids[f"{cell.tier}/{cell.experiment}"])


def _json(runs: dict[str, dict]) -> Markup:
    """As JSON for a script element, with </script> escaped."""
    text = json.dumps({"columns": COLUMNS, "of": runs}, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("</", "<\\/"))


def prices(results: Path, tiers: list[str], experiment: str) -> str:
    """In words, how long the missing runs of an experiment would take at each tier that has it."""
    parts = []
    for tier in tiers:
        cost = costs.read(results, tier).get(experiment)
        if cost and cost["missing"]:
            hours = f"{costs.hours(cost['hours'])} of this machine, {costs.hours(cost['gpu_hours'])} of a GPU"
            parts.append(f"{TIERS.get(tier, tier)}: {cost['missing']} runs, {hours}")
    return "; ".join(parts)
