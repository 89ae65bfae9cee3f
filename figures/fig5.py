"""Figure 5: best test accuracy on CIFAR-10 by gamma and lr, PowerSGD with SGDM's row beside it, two networks.

python -m figures.fig5 [--tier laptop] [--results results] [--redraw]
"""

from statistics import mean

from analysis import style
from analysis.records import best, collect_rows, command, options, select
from runs.table import write as write_table

NETWORKS = {"resnet50": "ResNet-50", "densenet121": "DenseNet-121"}


def main(experiment: str = "fig5", doc: str = __doc__) -> None:
    arguments = options(doc, "laptop").parse_args()
    base = arguments.results / arguments.tier / experiment.replace("fig", "figure")
    rows, provenance = collect_rows(arguments.results, arguments.tier, experiment, arguments.redraw)
    found = cells(rows)
    write_table(base.with_suffix(".csv"), found)
    print("pictures", *style.save(draw(found, provenance), base))
    print(f"table    {base.with_suffix('.csv')}")


def cells(rows: list[dict]) -> list[dict]:
    """A row for each network, optimizer, gamma and lr: the best test accuracy, mean over the seeds."""
    settings = dict.fromkeys((row["model"], row["optimizer"], row["gamma"], row["initial_lr"]) for row in rows)
    found = []
    for model, optimizer, gamma, lr in settings:
        runs = best(select(rows, model=model, optimizer=optimizer, gamma=gamma, initial_lr=lr), "test_acc")
        found.append({"model": model, "optimizer": optimizer, "gamma": gamma, "lr": lr, "seeds": len(runs),
                      "best_test_acc": mean(runs), "least": min(runs), "greatest": max(runs)})  # fmt: skip
    return found


def draw(found: list[dict], provenance: dict):
    models = [model for model in NETWORKS if select(found, model=model)]
    lrs, entries = provenance["axes"]["initial_lr"][::-1], provenance["entries"]
    gammas = sorted({gamma for label, gamma in entries if label.endswith("powersgd") and gamma is not None})
    values = [cell["best_test_acc"] for cell in found]
    others = list(dict.fromkeys((cell["optimizer"], cell["gamma"]) for cell in found
                                if cell["optimizer"] not in ("powersgd", "sgdm")))  # fmt: skip
    lines = [("sgdm", None)] if any(label.endswith("sgdm") for label, _ in entries) else []
    lines += [("powersgd", gamma) for gamma in gammas] + others
    size = (3.6 * len(models) + 1, 1.4 + 0.28 * max(len(lines), 8))
    figure, panels = style.plt.subplots(1, len(models), figsize=size, sharey=True)
    for axes, model in zip(style.listed(panels), models, strict=True):
        grid = [[value(found, model=model, optimizer=name, gamma=gamma, lr=lr) for lr in lrs] for name, gamma in lines]
        style.heatmap(axes, grid, min(values), max(values), lambda accuracy: f"{accuracy:.1%}")
        axes.set_xticklabels([f"{lr:g}" for lr in lrs])
        axes.set_yticklabels([named(*line) for line in lines])
        axes.set(title=NETWORKS[model] + style.reduced(provenance), xlabel="learning rate")
    figure.suptitle("best test accuracy on CIFAR-10, mean over seeds (γ 1 is SGD)", fontsize=8)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    style.stamp(figure, provenance)
    return figure


def named(optimizer: str, gamma: float | None) -> str:
    if optimizer == "powersgd":
        return f"γ {gamma:g}"
    return "SGDM" if optimizer == "sgdm" else style.row_name(optimizer, gamma)


def value(found: list[dict], **where) -> float | None:
    chosen = select(found, **where)
    return chosen[0]["best_test_acc"] if chosen else None


if __name__ == "__main__":
    command(main)
