"""One page for a tier: every claim with its verdict, every figure, the paper's numbers beside ours, where all is from.

    python -m report [--tier laptop] [--results results]

Writes report.html, which works from a file without a network, and REPORT.md for reading on the web. Reads what the
figures have written, trains and draws nothing.
"""

import html
import re
from collections import Counter
from pathlib import Path

import pandas as pd

from analysis import budget, costs, names, style
from analysis.claims import judge as claims
from analysis.claims.entries import less_best, reported
from analysis.claims.parts import Absent, Sample, TooFew, by_setting, per_run
from analysis.claims.schema import Archive, NoVerdict
from analysis.paper import best_test_acc, reference
from analysis.records import EXPERIMENTS, NoRecords, best, collect, load, only, options, read_table
from analysis.tables import interval, markdown
from analysis.verdicts import LEAST_SEEDS, NOT_RUN, judge
from runs import sums
from runs.files import DamagedFile, write_text

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #e5e5e5; }
figure { margin: 1.5rem 0; } svg { max-width: 100%; height: auto; } .tier { color: #666; }
.reproduced { color: #00664d; } .not-reproduced { color: #a33b00; } .mixed { color: #7a5200; }
"""
WARNING = {
    "smoke": "This tier shows that every step runs. No verdict here says anything about the paper's claims.",
    "laptop": "Smaller networks; late claims are judged by the paper's schedule on a small part of the images, early "
    "ones by the paper's first epochs on all. A verdict here is about this tier, not the paper's runs; "
    "docs/laptop-notes.md asks of each what in it could be the tier's.",
    "short": "Smaller networks, 10,000 images and 15 epochs: a verdict here is about this tier, not the paper's runs. "
    "docs/laptop-notes.md asks of each whether it is an artefact.",
    "paper": "The paper's protocol, unreduced, where it was run.",
}


def main() -> None:
    arguments = options(__doc__, "laptop").parse_args()
    folder = arguments.results / arguments.tier
    sections = [
        ("The claims", verdict_table(arguments.results, arguments.tier)),
        ("The paper's numbers and ours", reference_table(arguments.results, arguments.tier)),
        ("How far below SGDM", gaps_table(arguments.results, arguments.tier)),
        ("What was chosen", selection_table(folder)),
        ("At an equal budget of settings", fairness_table(arguments.results, arguments.tier)),
        ("Where it comes from", provenance_table(arguments.results, arguments.tier)),
        ("Not run", not_run_table(arguments.results, arguments.tier)),
    ]
    pictures = [path for place in (folder, arguments.results, arguments.results / "theory")
                for path in sorted(place.glob("*.svg"))]  # fmt: skip
    written = [write_text(folder / "report.html", page(arguments.tier, sections, pictures)),
               write_text(folder / "REPORT.md", markdown_page(arguments.tier, sections, pictures, folder))]  # fmt: skip
    print("report  ", *written)


Table = tuple[list[str], list[list[str]]]


def verdict_table(results: Path, tier: str) -> Table:
    """All of them, those without a verdict last and with their cost."""
    found = sorted(claims.everything(results, tier), key=lambda claim: claim.verdict == NOT_RUN)
    return claims.HEADER, [claim.row() for claim in found]


def reference_table(results: Path, tier: str) -> Table:
    """Every accuracy that the paper states, beside that of the same setting, or of the chosen one, here."""
    paper = reference()
    first = only(pd.concat([epochs_of(results, tier, name) for name in names.PANELS]), stage="report")
    second, fifth, seventh = (epochs_of(results, tier, name) for name in ("fig2", "fig5", "fig7"))
    lines = []
    for entry in paper["figure1"]:
        where = {"dataset": entry["dataset"], "model": entry["model"], "label": entry["optimizer"]}
        lines.append(reference_line(entry, entry["model"], entry["optimizer"], only(first, **where)))
    for entry in paper["figure2"]:
        for lr in (entry["lr"], 0.01):  # which we take for what the caption's 0.1 should be
            where = {"optimizer": entry["optimizer"], "initial_lr": lr, "depth": entry["depth"]}
            name = f"{entry['optimizer']}, lr {lr:g}" + (" (paper: 0.1)" if lr != entry["lr"] else "")
            where |= {"epoch": entry["epochs"]}
            about = entry | {"dataset": "mnist"}
            lines.append(reference_line(about, "13-layer MLP", name, only(second, **where), "train_acc"))
    for entry in paper["figure5"]["stated"]:
        for model in ("resnet50", "densenet121"):  # the paper does not say which
            where = {"optimizer": "powersgd", "model": model, "initial_lr": entry["lr"], "gamma": entry["gamma"]}
            name = f"{entry['optimizer']}, lr {entry['lr']:g}, γ {entry['gamma']:g}"
            lines.append(reference_line(entry, f"{model}?", name, only(fifth, **where)))
    for entry in paper["figure7"]:
        where = {"optimizer": entry["optimizer"], "schedule": entry["schedule"], "stage": "report"}
        name = f"{entry['optimizer']}, schedule {entry['schedule']}"
        lines.append(reference_line(entry | {"dataset": "cifar10"}, "resnet50", name, only(seventh, **where)))
    return ["data set", "network", "optimizer", "section", "accuracy", "paper", f"here, tier {tier}"], lines


def reference_line(entry: dict, network: str, name: str, epochs: pd.DataFrame, column: str = "test_acc") -> list[str]:
    number = entry["train_acc" if column == "train_acc" else "best_test_acc"]
    which = f"train, after {entry['epochs']} epochs" if column == "train_acc" else "best test"
    here = "not run" if epochs.empty else f"{interval(best(epochs, column)[column])}, seeds: {epochs['run'].nunique()}"
    paper = "in the picture only" if number is None else f"{number:.4f}"
    return [entry["dataset"], network, name, entry["section"], which, paper, here]


def gaps_table(results: Path, tier: str) -> Table:
    """SGDM's best test accuracy less each other's in figure 1: by the paper's numbers, and here, unpaired."""
    words = {(gap["dataset"], gap["between"][1]): f" (in words: {gap['words']})" for gap in reference()["gaps"]}
    networks = dict.fromkeys((entry["dataset"], entry["model"]) for entry in reference()["figure1"])
    lines = []
    for experiment, (dataset, model) in zip(names.PANELS, networks, strict=True):
        sample = chosen(Archive.load(results, tier, experiment))
        numbers = best_test_acc(dataset, model)
        for label in [label for label in numbers if label != "sgdm"]:
            gap = f"{numbers['sgdm'] - numbers[label]:+.4f}{words.get((dataset, label), '')}"
            lines.append([dataset, model, names.optimizer(label), gap, gap_here(sample, label)])
    return ["data set", "network", "optimizer", "paper", f"here, tier {tier} (95 % interval)"], lines


def chosen(archive: Archive) -> Sample:
    """The best test accuracy of each run of the settings that were chosen, by grid entry."""
    try:
        found = reported(archive)
    except NoVerdict:
        return Sample({})
    return Sample(by_setting(found.runs, per_run(found.epochs, "test_acc", "best", 0.0), ["label"]))


def gap_here(sample: Sample, label: str) -> str:
    try:
        gap = less_best(sample, "sgdm", (label,))
    except Absent:
        return "not run"
    except TooFew as few:
        return f"{few} of at least {LEAST_SEEDS} seeds"
    assert sample.estimates is not None  # of so many seeds there is a variance
    found = judge(gap, sample.estimates, (None, None))
    return f"{found.spelled()} ({found.variance})"


def epochs_of(results: Path, tier: str, experiment: str) -> pd.DataFrame:
    """The archive's epochs of an experiment; none if it was not run."""
    return load(results / tier / "archive", experiment)[1]


def selection_table(folder: Path) -> Table:
    lines = []
    for path in sorted(folder.glob("selection-*.csv")):
        lines += [
            [path.stem.removeprefix("selection-"), row["label"], row["setting"], row["reason"]]
            for row in read_table(path) if row["chosen"] == "yes"
        ]  # fmt: skip
    return ["experiment", "optimizer", "setting", "reason"], lines


def fairness_table(results: Path, tier: str) -> Table:
    """Each optimizer of figure 1 at its own number of settings and at the smallest one."""
    lines = [[name, *line] for name in names.PANELS for line in budget.compared(epochs_of(results, tier, name))]
    return ["experiment", *budget.HEADER], lines


def provenance_table(results: Path, tier: str) -> Table:
    lines = []
    for experiment in sorted(path.stem for path in EXPERIMENTS.glob("*.yaml")):
        try:
            _, found = collect(results, tier, experiment, redraw=True)
        except NoRecords:
            continue
        commits = Counter(environment["commit"] for environment in found["environments"])
        machines = {f"{e['device']}, {e['processor']}, {e['threads']} thread(s)" for e in found["environments"]}
        versions = {f"torch {e['torch']}, Python {e['python']}" for e in found["environments"]}
        seeds = " ".join(map(str, found["seeds"]))
        lines.append([experiment, str(found["runs"]), str(len(found["missing"])),
                      str(found["environment_changed_while_training"]), seeds,
                      f"{found['training_seconds'] / 3600:.2f}", " ".join(sorted(commits)),
                      "; ".join(sorted(machines)), "; ".join(sorted(versions))])  # fmt: skip
    header = ["experiment", "runs", "missing", "environment changed in", "seeds", "hours of training", "commits",
              "machine", "versions"]  # fmt: skip
    return header, lines


def not_run_table(results: Path, tier: str) -> Table:
    """From costs.json, which `sweep.py plan=true archive=true tier=...` writes."""
    found = costs.read(results, tier)
    if not found:
        return ["experiment", f"run: python sweep.py plan=true archive=true tier={tier}"], []
    lines = [
        [name, str(cost["missing"]), costs.hours(cost["hours"]), costs.hours(cost["gpu_hours"])]
        for name, cost in found.items() if cost["missing"]
    ]  # fmt: skip
    header = ["experiment", "runs missing (shared ones in each)", "on this machine, without refinement",
              "on a GPU (assumed, not measured)"]  # fmt: skip
    return header, lines


def page(tier: str, sections: list[tuple[str, Table]], pictures: list[Path]) -> str:
    parts = [f"<h1>PowerSGD, reproduced</h1><p class=tier>tier {tier}: {WARNING.get(tier, '')}</p>"]
    parts.append(section_html(*sections[0]))
    parts.append("<h2>The figures</h2>")
    parts += [figure_html(path) for path in pictures]
    parts += [section_html(*section) for section in sections[1:]]
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>PowerSGD, tier {tier}</title>"
    body = "\n".join(parts)
    return f"<!doctype html><html lang=en><head>{head}<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"


def section_html(title: str, table: Table) -> str:
    header, lines = table
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(map(cell_html, line))}</tr>" for line in lines)
    table_html = f"<div class=wide><table><tr>{head}</tr>{body}</table></div>" if lines else "<p>Nothing.</p>"
    return f"<h2>{html.escape(title)}</h2>{table_html}"


def cell_html(text: str) -> str:
    kind = text.replace(" ", "-")
    marked = f" class={kind}" if kind in ("reproduced", "not-reproduced", "mixed") else ""
    return f"<td{marked}>{html.escape(text)}</td>"


def figure_html(path: Path) -> str:
    """The SVG itself. Its ids get the file's name: two pictures on a page may not share one. Raises DamagedFile."""
    _, start, svg = sums.read(path).decode(errors="replace").partition("<svg")
    if not svg.endswith("</svg>\n"):
        raise DamagedFile(f"{path} is damaged (it is no whole SVG); draw it again")
    svg = start + svg
    name = path.stem
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    caption = style.captions(path.parent).get(name, "")
    return f"<figure id='{name}'>{svg}<figcaption>{html.escape(f'{name}. {caption}')}</figcaption></figure>"


def markdown_page(tier: str, sections: list[tuple[str, Table]], pictures: list[Path], folder: Path) -> str:
    parts = [f"# PowerSGD, reproduced: tier {tier}\n\n{WARNING.get(tier, '')}\n"]
    for title, (header, lines) in sections:
        parts.append(f"## {title}\n")
        parts.append(markdown(header, lines) if lines else "Nothing.\n")
    parts.append("## The figures\n")
    parts += [f"![{path.stem}]({_relative(path, folder)})\n" for path in pictures]
    return "\n".join(parts)


def _relative(path: Path, folder: Path) -> str:
    return path.name if path.parent == folder else f"../{path.relative_to(folder.parent)}"
