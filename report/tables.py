"""The report's tables, each for one tier: verdicts, the paper's numbers, ours, choices, sources, what is missing."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from analysis import budget, costs, names
from analysis.claims import judge as claims
from analysis.claims.entries import less_best, reported
from analysis.claims.parts import Absent, Sample, TooFew, by_setting, per_run
from analysis.claims.schema import Archive, NoVerdict, paper_labels
from analysis.paper import FIGURE7, best_test_acc, reference
from analysis.records import EXPERIMENTS, NoRecords, best, collect, incomplete, load, only, read_table
from analysis.style import counted
from analysis.tables import interval
from analysis.verdicts import LEAST_SEEDS, NOT_RUN, judge

Table = tuple[list[str], list[list[str]]]


WARNING = {
    "smoke": "This tier shows that every step runs. No verdict here says anything about the paper's claims.",
    "laptop": "Smaller networks. Claims about the end of training are judged by runs with the paper's schedule on part "
    "of the images, claims about the first epochs by runs of five epochs on all images. A verdict is about this tier, "
    "not about the paper's runs; docs/laptop-notes.md says for each what the tier may have changed.",
    "short": "Smaller networks, 10,000 images and 15 epochs. A verdict is about this tier, not about the paper's runs; "
    "docs/laptop-notes.md says for each what the tier may have changed.",
    "paper": "The paper's protocol, unreduced, where it was run.",
}


class Stated(NamedTuple):
    """An accuracy stated in the paper, and what the same setting, or the chosen one, reached here."""

    figure: str
    dataset: str
    network: str
    optimizer: str
    section: str
    accuracy: str  # which
    paper: float | None  # None: in the picture only
    here: list[float]  # a value a seed


def verdict_table(found: list[claims.Verdict]) -> Table:
    """All verdicts; claims that were not run come last, with their cost."""
    return claims.HEADER, [claim.row() for claim in sorted(found, key=lambda claim: claim.verdict == NOT_RUN)]


def stated(results: Path, tier: str) -> list[Stated]:
    """Every accuracy stated in the paper, beside ours, in the order of its figures."""
    paper = reference()
    first = only(pd.concat([epochs_of(results, tier, name) for name in names.PANELS]), stage="report")
    second, fifth, seventh = (epochs_of(results, tier, name) for name in ("fig2", "fig5", "fig7"))
    found = []
    for entry in paper["figure1"]:
        where = {"dataset": entry["dataset"], "model": entry["model"], "label": entry["optimizer"]}
        found.append(_stated("1", entry, entry["model"], names.optimizer(entry["optimizer"]), only(first, **where)))
    for entry in paper["figure2"]:
        for lr in (entry["lr"], 0.01):  # which we take for what the caption's 0.1 should be
            where = {"optimizer": entry["optimizer"], "initial_lr": lr, "depth": entry["depth"]}
            name = f"{names.optimizer(entry['optimizer'])}, lr {lr:g}" + (" (paper: 0.1)" if lr != entry["lr"] else "")
            where |= {"epoch": entry["epochs"]}
            about = entry | {"dataset": "mnist"}
            found.append(_stated("2", about, "13-layer MLP", name, only(second, **where), "train_acc"))
    for entry in paper["figure5"]["stated"]:
        for model in ("resnet50", "densenet121"):  # the paper does not say which
            where = {"optimizer": "powersgd", "model": model, "initial_lr": entry["lr"], "gamma": entry["gamma"]}
            name = f"{names.optimizer(entry['optimizer'])}, lr {entry['lr']:g}, γ {entry['gamma']:g}"
            found.append(_stated("5", entry, f"{model}?", name, only(fifth, **where)))
    for entry in paper["figure7"]:
        where = {"label": FIGURE7[entry["optimizer"], entry["schedule"]], "stage": "report"}
        name = f"{names.optimizer(entry['optimizer'])}, {entry['schedule'].replace('_', ' ')}"
        found.append(_stated("7", entry | {"dataset": "cifar10"}, "resnet50", name, only(seventh, **where)))
    return found


def _stated(figure: str, entry: dict, model: str, name: str, epochs: pd.DataFrame, column: str = "test_acc") -> Stated:
    which = f"train, after {entry['epochs']} epochs" if column == "train_acc" else "best test"
    network, question = model.removesuffix("?"), "?" * model.endswith("?")
    return Stated(figure, names.DATASETS[entry["dataset"]], names.NETWORKS.get(network, network) + question, name,
                  entry["section"], which, entry["train_acc" if column == "train_acc" else "best_test_acc"],
                  best(epochs, column)[column].tolist() if len(epochs) else [])  # fmt: skip


def reference_table(results: Path, tier: str) -> Table:
    lines = [[one.dataset, one.network, one.optimizer, one.section, one.accuracy, paper_value(one),
              f"{interval(one.here)}, {counted(len(one.here), 'seed')}" if one.here else "not run"]
             for one in stated(results, tier)]  # fmt: skip
    return ["data set", "network", "optimizer", "section", "accuracy", "paper", f"here, tier {tier}"], lines


def paper_value(one: Stated) -> str:
    return "in the picture only" if one.paper is None else f"{one.paper:.4f}"


def gaps_table(results: Path, tier: str) -> Table:
    """SGDM's best test accuracy minus each other's in figure 1: by the paper's numbers, and here, unpaired."""
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
    """The best test accuracy of each run of the chosen settings, by grid entry."""
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
    """An experiment's epochs from the archive; without rows if it was not run."""
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
    """Each optimizer of figure 1, with its own number of settings and with the smallest number."""
    lines = []
    for name in names.PANELS:
        runs, epochs = load(results / tier / "archive", name)
        lines += [[name, *line] for line in budget.compared(epochs, paper_labels(name), incomplete(runs))]
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
