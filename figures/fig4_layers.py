"""Beside figure 4: how much PowerSGD amplifies each layer's gradient, over the first epoch, by depth and gamma.

    python -m figures.fig4_layers [--tier paper] [--results results] [--redraw]

The ratio of the 2-norms of sigma(g) and g of each layer's weights, averaged over the steps of the epoch.
"""

from statistics import mean

from analysis import style
from analysis.records import collect_rows, command, options, select
from analysis.tables import markdown


def main() -> None:
    arguments = options(__doc__, "paper").parse_args()
    base = arguments.results / arguments.tier / "figure4_layers"
    rows, provenance = collect_rows(arguments.results, arguments.tier, "fig4_layers", arguments.redraw)
    print("pictures", *style.save(draw(rows, provenance), base))
    base.with_suffix(".md").write_text(f"# Amplification by layer, tier {arguments.tier}\n\n{table(rows)}")
    print(f"table    {base.with_suffix('.md')}")


def amplification(rows: list[dict], layer: int) -> float | None:
    """Mean over the runs; None where the layer's gradient was 0 in every step of all of them."""
    values = [row[f"amplification_{layer}"] for row in rows if row["epoch"] == 1]
    values = [value for value in values if value is not None]
    return mean(values) if values else None


def draw(rows: list[dict], provenance: dict):
    lrs, gammas, depths = provenance["axes"].values()
    figure, panels = style.plt.subplots(len(lrs), len(gammas), figsize=(2.7 * len(gammas), 2.5 * len(lrs) + 0.5),
                                        sharex=True, sharey=True, squeeze=False)  # fmt: skip
    for line, lr in zip(panels, lrs[::-1], strict=True):
        for axes, gamma in zip(line, gammas, strict=True):
            for index, depth in enumerate(depths):
                chosen = select(rows, initial_lr=lr, gamma=gamma, depth=depth)
                points = {layer: amplification(chosen, layer) for layer in range(1, depth + 1)} if chosen else {}
                points = {layer: value for layer, value in points.items() if value is not None}
                colour, dash = style.nth(index)
                axes.plot(list(points), list(points.values()), dash, color=colour, marker=".", markersize=4,
                          label=f"{depth} layers")  # fmt: skip
            axes.set(yscale="log", title=f"γ {gamma:g}, lr {lr:g}")
    for axes in panels[-1]:
        axes.set_xlabel("layer")
    for axes in panels[:, 0]:
        axes.set_ylabel("‖σ(g)‖ / ‖g‖")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="lower center", ncols=4, bbox_to_anchor=(0.5, 0.02))
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    style.stamp(figure, provenance)
    return figure


def table(rows: list[dict]) -> str:
    """First, middle and last layer of each setting, and the train accuracy of that first epoch."""
    lines = []
    settings = dict.fromkeys((row["initial_lr"], row["gamma"], row["depth"]) for row in rows)
    for lr, gamma, depth in sorted(settings, key=lambda s: (-s[0], s[1], s[2])):
        chosen = select(rows, initial_lr=lr, gamma=gamma, depth=depth)
        values = [amplification(chosen, layer) for layer in (1, depth // 2, depth)]
        cells = ["all zero" if value is None else f"{value:.3g}" for value in values]
        accuracies = " ".join(f"{row['train_acc']:.3f}" for row in chosen if row["epoch"] == 1)
        lines.append([f"{lr:g}", f"{gamma:g}", str(depth), *cells, accuracies])
    header = ["lr", "gamma", "depth", "layer 1", "middle layer", "last layer", "train accuracy of each seed, epoch 1"]
    return markdown(header, lines)


if __name__ == "__main__":
    command(main)
