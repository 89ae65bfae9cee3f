"""Figure 7: train loss and test accuracy with and without warm restarts, ResNet-50 on CIFAR-10.

    python -m figures.fig7 [--tier laptop] [--results results] [--redraw]

Restarts leave a 160-epoch run ten epochs into a hot cycle, so best and last epoch are both in the table.
"""

from analysis import style
from analysis.records import NoRecords, best, by_seed, collect_rows, command, options
from analysis.statistics import t_interval
from analysis.tables import interval, markdown

PAPER_LINES = ((0.9412, "paper, PowerSGD: 94.12 %"), (0.9464, "paper, PowerSGDR: 94.64 %"))
NAMES = {"sgdm": "SGDM", "sgdr": "SGDR", "powersgd": "PowerSGD", "powersgdr": "PowerSGDR"}


def main() -> None:
    arguments = options(__doc__, "laptop").parse_args()
    base = arguments.results / arguments.tier / "figure7"
    rows, provenance = collect_rows(arguments.results, arguments.tier, "fig7", arguments.redraw)
    rows = [row for row in rows if row["stage"] == "report"]
    if not rows:
        raise NoRecords(f"nothing has been chosen yet; run: python sweep.py experiment=fig7 tier={arguments.tier}")
    print("pictures", *style.save(draw(rows, provenance), base))
    base.with_suffix(".md").write_text(f"# Figure 7, tier {arguments.tier}\n\n{table(rows)}")
    print(f"table    {base.with_suffix('.md')}")


def draw(rows: list[dict], provenance: dict):
    figure, (loss, accuracy) = style.plt.subplots(1, 2, figsize=(9, 3.9))
    for index, label in enumerate(dict.fromkeys(row["label"] for row in rows)):
        chosen, name = [row for row in rows if row["label"] == label], NAMES.get(label, label)
        top = t_interval(best(chosen, "test_acc"))[0]
        style.curves(loss, list(by_seed(chosen, "train_loss").values()), name, *style.nth(index))
        style.curves(accuracy, list(by_seed(chosen, "test_acc").values()), f"{name}, best {top:.2%}", *style.nth(index))
    if provenance["tier"] == "paper":
        for value, text in PAPER_LINES:
            style.paper_line(accuracy, value, text)
    loss.set(xlabel="epoch", ylabel="train loss (running)", title="train loss")
    style.log_axis(loss.yaxis)
    accuracy.set(xlabel="epoch", ylabel="test accuracy", title="test accuracy")
    loss.legend()
    accuracy.legend()
    figure.suptitle("ResNet-50 on CIFAR-10" + style.reduced(provenance), fontsize=9)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    style.stamp(figure, provenance)
    return figure


def table(rows: list[dict]) -> str:
    lines = []
    for label in dict.fromkeys(row["label"] for row in rows):
        chosen = [row for row in rows if row["label"] == label]
        gamma = chosen[0]["gamma"]
        columns = (best(chosen, "train_loss", min), best(chosen, "train_loss", lambda run: run[-1]),
                   best(chosen, "test_acc"), best(chosen, "test_acc", lambda run: run[-1]))  # fmt: skip
        lines.append([NAMES.get(label, label), f"{chosen[0]['initial_lr']:g}", "" if gamma is None else f"{gamma:g}",
                      str(len(columns[0])), *map(interval, columns)])  # fmt: skip
    header = ["", "lr", "gamma", "seeds", "lowest train loss", "last train loss", "best test accuracy",
              "last test accuracy"]  # fmt: skip
    return markdown(header, lines)


if __name__ == "__main__":
    command(main)
