"""Figure 2: SGD and PowerSGD on the 13-layer network on MNIST.

(a) running train accuracy of each epoch, (b) 1-norm of the first layer's stochastic weight gradient, averaged
over the steps of each epoch: as the optimizer steps with it, so after the Powerball function for PowerSGD.

    python -m figures.fig2 [--tier paper] [--results results] [--redraw]
"""

import json

from analysis import style
from analysis.claims.judge import as_markdown, judge
from analysis.records import by_seed, collect_rows, command, options

LABELS = {"sgd": "SGD", "powersgd": "PowerSGD"}
PAPER_LINES = ((0.1124, "paper, SGD: 11.24 %"), (0.9891, "paper, PowerSGD: 98.91 %"))
REPORT = """\
# Figure 2, tier {tier}

{verdicts}
![figure 2](figure2.svg)

## Last epoch

Mean over {seeds} seeds; dead units are hidden units (of 12 x 256) that fire for no test image.

{table}"""


def main() -> None:
    arguments = options(__doc__, "paper").parse_args()
    base = arguments.results / arguments.tier / "figure2"
    rows, provenance = collect_rows(arguments.results, arguments.tier, "fig2", arguments.redraw)
    base.with_suffix(".json").write_text(json.dumps(provenance, indent=1) + "\n")
    pictures = style.save(draw(rows, provenance), base)
    verdicts = judge(arguments.results, arguments.tier, "fig2")
    report = REPORT.format(
        tier=provenance["tier"],
        verdicts=as_markdown(verdicts),
        seeds=len(provenance["seeds"]),
        table=last_epoch_table(rows),
    )
    base.with_suffix(".md").write_text(report)
    for verdict in verdicts:
        print(f"{verdict.verdict}: {verdict.claim} ({verdict.evidence})")
    print("pictures", *pictures)
    print(f"archive  {base.parent / 'archive' / 'fig2-epochs.csv'}")
    print(f"verdict  {base.with_suffix('.md')}")


def settings(rows: list[dict]) -> list[tuple]:
    """The (optimizer, lr, gamma) of the rows, in the order of the experiment."""
    return list(dict.fromkeys((row["optimizer"], row["lr"], row["gamma"]) for row in rows))


def draw(rows: list[dict], provenance: dict):
    figure, (accuracy, norm) = style.plt.subplots(1, 2, figsize=(9, 3.8))
    for index, (optimizer, lr, gamma) in enumerate(settings(rows)):
        colour, dash = style.nth(index)
        chosen = [row for row in rows if (row["optimizer"], row["lr"], row["gamma"]) == (optimizer, lr, gamma)]
        label = f"{LABELS.get(optimizer, optimizer)}, lr {lr:g}" + (f", γ {gamma:g}" if gamma is not None else "")
        style.curves(accuracy, list(by_seed(chosen, "train_acc").values()), label, colour, dash)
        column = "grad_norm1" if chosen[0]["powered_norm1"] is None else "powered_norm1"
        style.curves(norm, list(by_seed(chosen, column).values()), label, colour, dash)
        zeros = [row["epoch"] for row in chosen if row[column] == 0]
        if zeros:  # which a logarithmic axis cannot show
            text = f"{label}:\nexactly 0 from epoch {min(zeros)} on"
            norm.annotate(text, (min(zeros), 0.3), xytext=(min(zeros) + 0.3, 0.3), fontsize=7, color=colour)
    for value, text in PAPER_LINES:
        style.paper_line(accuracy, value, text)
    accuracy.set(xlabel="epoch", ylabel="train accuracy (running)", ylim=(0, 1.08), title="(a) train accuracy")
    norm.set(xlabel="epoch", ylabel="1-norm, first layer", yscale="log", title="(b) gradient g, for PowerSGD σ(g)")
    figure.legend(*accuracy.get_legend_handles_labels(), loc="lower center", ncols=4, bbox_to_anchor=(0.5, 0.03))
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    style.stamp(figure, provenance)
    return figure


def last_epoch_table(rows: list[dict]) -> str:
    columns = ("train_acc", "test_acc", "train_loss", "grad_norm1", "powered_norm1")
    lines = ["| optimizer | lr | gamma | " + " | ".join(columns) + " | dead units | each seed's train_acc |"]
    lines.append("|" + " --- |" * (len(columns) + 5))
    for optimizer, lr, gamma in settings(rows):
        chosen = [row for row in rows if (row["optimizer"], row["lr"], row["gamma"]) == (optimizer, lr, gamma)]
        last = list({row["seed"]: row for row in sorted(chosen, key=lambda row: row["epoch"])}.values())
        cells = [_mean([row[column] for row in last]) for column in columns]
        dead = _mean([sum(v for k, v in row.items() if k.startswith("dead_units_")) for row in last])
        each = " ".join(f"{row['train_acc']:.4f}" for row in last)
        gamma = "" if gamma is None else f"{gamma:g}"
        lines.append(f"| {optimizer} | {lr:g} | {gamma} | " + " | ".join(cells) + f" | {dead} | {each} |")
    return "\n".join(lines) + "\n"


def _mean(values: list) -> str:
    return "" if None in values else f"{sum(values) / len(values):.4g}"


if __name__ == "__main__":
    command(main)
