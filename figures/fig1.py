"""Figure 1: train and test accuracy of each optimizer's chosen setting, two panels for each network.

    python -m figures.fig1 [a ab ...] [--tier laptop] [--results results] [--redraw]

a c e g i: running train accuracy; b d f h j: test accuracy, the best of each optimizer annotated.
"""

from pathlib import Path

import yaml

from analysis import style
from analysis.records import NoRecords, best, by_seed, collect_rows, command, options
from analysis.statistics import t_interval
from analysis.tables import interval, markdown

REFERENCE = Path(__file__).resolve().parent.parent / "results" / "paper_reference.yaml"
PANELS = {"ab": "ResNet-50 on CIFAR-10", "cd": "DenseNet-121 on CIFAR-10", "ef": "WRN-26-10 on CIFAR-100",
          "gh": "ResNeXt-29 on CIFAR-100", "ij": "ResNet-50 on ImageNet"}  # fmt: skip
NAMES = {"sgdm": "SGDM", "powersgd": "PowerSGD", "powersgdm": "PowerSGDM", "adagrad": "AdaGrad", "rmsprop": "RMSprop",
         "adam": "Adam"}  # fmt: skip


def main() -> None:
    parser = options(__doc__, "laptop")
    parser.add_argument("panels", nargs="*", metavar="a...j", help="default: all that have runs")
    arguments = parser.parse_args()
    panels = "".join(arguments.panels)
    unknown = [letter for letter in panels if letter not in "abcdefghij"]
    if unknown:
        parser.error(f"there is no panel {unknown[0]}; choose from a b c d e f g h i j")
    missing = []
    for pair in PANELS:
        letters = [letter for letter in pair if letter in (panels or "abcdefghij")]
        try:
            if letters:
                draw_pair(pair, letters, arguments.results, arguments.tier, arguments.redraw)
        except NoRecords as error:
            missing.append(error)
            if panels or len(missing) == len(PANELS):
                raise
            print(f"not drawn: {error}")


def draw_pair(pair: str, letters: list[str], results: Path, tier: str, redraw: bool) -> None:
    """The panels of one network, and their table."""
    rows, provenance = collect_rows(results, tier, f"fig1{pair}", redraw)
    rows = [row for row in rows if row["stage"] == "report"]
    if not rows:
        raise NoRecords(
            f"nothing has been chosen for fig1{pair} yet; python sweep.py experiment=fig1{pair} tier={tier}"
        )
    for letter in letters:
        figure = draw(rows, provenance, letter, PANELS[pair] + style.reduced(provenance))
        print("pictures", *style.save(figure, results / tier / f"figure1{letter}"))
    path = results / tier / f"figure1{pair}.md"
    path.write_text(f"# Figure 1({pair[0]}, {pair[1]}): {PANELS[pair]}, tier {tier}\n\n{table(rows)}")
    print(f"table    {path}")


def draw(rows: list[dict], provenance: dict, letter: str, title: str):
    train = letter in "acegi"
    column = "train_acc" if train else "test_acc"
    figure, axes = style.plt.subplots(figsize=(5, 4))
    for index, label in enumerate(dict.fromkeys(row["label"] for row in rows)):
        chosen = [row for row in rows if row["label"] == label]
        name = NAMES.get(label, label)
        if not train:
            name += f", best {t_interval(best(chosen, 'test_acc'))[0]:.2%}"
        style.curves(axes, list(by_seed(chosen, column).values()), name, *style.nth(index))
    if not train and provenance["tier"] == "paper":  # a smaller tier cannot be held against the paper's numbers
        for label, value in stated(rows[0]["dataset"], rows[0]["model"]).items():
            style.paper_line(axes, value, f"paper, {NAMES.get(label, label)}: {value:.2%}")
    axes.set(xlabel="epoch", ylabel="train accuracy (running)" if train else "test accuracy",
             title=f"({letter}) {title}")  # fmt: skip
    axes.legend(fontsize=7)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    style.stamp(figure, provenance)
    return figure


def stated(dataset: str, model: str) -> dict[str, float]:
    """The best test accuracies that the paper states for a network, by optimizer."""
    entries = yaml.safe_load(REFERENCE.read_text())["figure1"]
    return {
        entry["optimizer"]: entry["best_test_acc"]
        for entry in entries
        if (entry["dataset"], entry["model"]) == (dataset, model) and entry["best_test_acc"] is not None
    }


def table(rows: list[dict]) -> str:
    """Each optimizer's chosen setting with its best and last test accuracy over the seeds."""
    lines = []
    for label in dict.fromkeys(row["label"] for row in rows):
        chosen = [row for row in rows if row["label"] == label]
        first = chosen[0]
        gamma = "" if first["gamma"] is None else f"{first['gamma']:g}"
        values = (best(chosen, "test_acc"), best(chosen, "test_acc", lambda run: run[-1]), best(chosen, "train_acc"))
        lines.append([NAMES.get(label, label), f"{first['initial_lr']:g}", gamma, str(len(values[0])),
                      *map(interval, values)])  # fmt: skip
    header = ["optimizer", "lr", "gamma", "seeds", "best test accuracy", "last test accuracy", "best train accuracy"]
    return markdown(header, lines)


if __name__ == "__main__":
    command(main)
