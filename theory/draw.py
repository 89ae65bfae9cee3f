"""The pictures, drawn from the rows of the tables."""

import math

import numpy as np

from analysis import style
from runs.table import select

from .bounds import THEOREMS, ones_norm

EXAMPLE = "cosines"  # the problem of the panels on T and n


def theorems(cells: list[dict], provenance: dict):
    """Measured values against bounds: all cells, over T, over n, and how tight the bounds are."""
    figure, ((scatter, over_t), (over_n, tight)) = style.plt.subplots(2, 2, figsize=(9, 7.2))
    _scatter(scatter, cells)
    _over_t(over_t, cells)
    _over_n(over_n, cells)
    _tightness(tight, cells)
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    _stamp(figure, provenance, f"{len(cells)} cells, {cells[0]['repetitions']} repetitions each")
    return figure


def _scatter(axes, cells: list[dict]) -> None:
    for theorem, colour in zip(THEOREMS, style.COLOURS, strict=False):
        rows = select(cells, theorem=theorem)
        axes.scatter([row["bound"] for row in rows], [row["measured"] for row in rows], 7, colour, alpha=0.4,
                     linewidths=0, label=theorem, rasterized=True)  # fmt: skip
    ends = [min(row["bound"] for row in cells), max(row["bound"] for row in cells)]
    axes.plot(ends, ends, color="black", linewidth=1)
    axes.annotate("bound", (ends[1], ends[1]), ha="right", va="bottom", fontsize=8, xytext=(-12, 0),
                  textcoords="offset points")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="right side", ylabel="measured left side", title="(a) every cell")
    axes.legend(title="theorem", markerscale=2)


def _example(cells: list[dict], **wanted) -> list[dict]:
    """The cells of theorem 3.1 without momentum on the example problem, or if it is missing, on the first one."""
    rows = [row for row in cells if row["theorem"] == "3.1" and row["oracle"] == "direct"] or cells
    names = [row["problem"] for row in rows]
    return select(rows, problem=EXAMPLE if EXAMPLE in names else names[0], **wanted)


def _over_t(axes, cells: list[dict]) -> None:
    """One dimension; a line for each gamma."""
    dimensions = sorted({row["n"] for row in _example(cells)})
    n = 100 if 100 in dimensions else dimensions[-1]
    rows = _example(cells, n=n)
    for gamma, colour in _gammas(rows):
        line = sorted(select(rows, gamma=gamma), key=lambda row: row["T"])
        times = [row["T"] for row in line]
        axes.plot(times, [row["measured"] for row in line], "o-", color=colour, markersize=3, label=f"γ {gamma:g}")
        axes.plot(times, [row["bound"] for row in line], "--", color=colour, linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="T", ylabel=r"mean of $\|g_t\|^2_{1+\gamma}$",
             title=f"(b) over T: theorem 3.1, {rows[0]['problem']}, n = {n}")  # fmt: skip
    axes.legend(title="measured; dashed: bound", ncols=2, fontsize=8)


def _over_n(axes, cells: list[dict]) -> None:
    """One horizon; both measured values and bounds are divided by the bound without its factor ||1||_p."""
    horizon = min(row["T"] for row in _example(cells))
    rows = _example(cells, T=horizon)
    for gamma, colour in _gammas(rows):
        line = sorted(select(rows, gamma=gamma), key=lambda row: row["n"])
        sizes = [row["n"] for row in line]
        norms = [ones_norm(n, gamma) for n in sizes]
        axes.plot(sizes, [row["ratio"] * norm for row, norm in zip(line, norms, strict=True)], "o-", color=colour,
                  markersize=3, label=f"γ {gamma:g}")  # fmt: skip
        axes.plot(sizes, norms, "--", color=colour, linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="n", ylabel=r"the same / (bound / $\|1\|_p$)",
             title=f"(c) over n: theorem 3.1, {rows[0]['problem']}, T = {horizon}")  # fmt: skip
    axes.legend(title=r"measured; dashed: $\|1\|_p = n^{(1-\gamma)/(1+\gamma)}$", ncols=3, fontsize=8, title_fontsize=8)


def _tightness(axes, cells: list[dict]) -> None:
    """For each theorem and beta, the median and range of the ratio over problems, n and T."""
    groups = sorted({(THEOREMS.index(row["theorem"]), row["beta"]) for row in cells})
    for place, (index, beta) in enumerate(groups):
        rows = select(cells, theorem=THEOREMS[index], beta=beta)
        gammas = sorted({row["gamma"] for row in rows})
        ratios = [[row["ratio"] for row in select(rows, gamma=gamma)] for gamma in gammas]
        middle = np.array([np.median(values) for values in ratios])
        ends = np.array([[m - min(values), max(values) - m] for m, values in zip(middle, ratios, strict=True)]).T
        x = np.array(gammas) + 0.018 * (place - (len(groups) - 1) / 2)
        label = f"{THEOREMS[index]}" + (f", β {beta:g}" if beta else "")
        axes.errorbar(x, middle, ends, fmt="o", markersize=3.5, linewidth=0.9, color=style.COLOURS[place % 7],
                      label=label)  # fmt: skip
    axes.axhline(1, color="black", linewidth=1)
    axes.set(yscale="log", xlabel="γ", ylabel="measured / bound", title="(d) tightness: median and range",
             ylim=(min(row["ratio"] for row in cells) / 8, 1.5))  # fmt: skip
    axes.legend(ncols=3, fontsize=8, loc="lower center")


def steps(rows: list[dict], curves: list[dict], provenance: dict):
    """The proofs' step against tuned constant ones: on the problems, and on the network if that was run."""
    names = list(dict.fromkeys(row["problem"] for row in rows))
    figure, grid = style.plt.subplots(2 if curves else 1, 4, figsize=(11, 6.2 if curves else 3.4), squeeze=False)
    for axes, name in zip(grid[0], names, strict=False):
        axes.sharey(grid[0][0])
        _remaining(axes, select(rows, problem=name))
        axes.set_title(f"{name}, n = {rows[0]['n']}, T = {rows[0]['T']}")
    grid[0][0].set_ylabel("what remains of f(x) - f*")
    handles = dict(zip(*reversed(grid[0][0].get_legend_handles_labels()), strict=True))
    if curves:
        gammas = sorted({row["gamma"] for row in curves})[:2]
        for place, gamma in enumerate(gammas):
            _losses(grid[1][place], select(curves, gamma=gamma))
            _learning_rates(grid[1][2 + place], select(curves, gamma=gamma))
        grid[1][0].set_ylabel("train loss")
        for axes in (grid[1][1], grid[1][3])[: 2 * (2 - len(gammas))]:
            axes.set_visible(False)
        more = dict(zip(*reversed(grid[1][0].get_legend_handles_labels()), strict=True))
        figure.legend(more.values(), more.keys(), loc="lower center", ncols=3, bbox_to_anchor=(0.5, 0.01))
    figure.tight_layout(rect=(0, 0.07 if curves else 0.1, 1, 0.95), h_pad=1.6)
    figure.legend(handles.values(), handles.keys(), loc="upper center", ncols=4)
    repetitions = provenance.get("repetitions")
    _stamp(figure, provenance, f"{repetitions} repetitions" if repetitions else "")
    return figure


def batches(rows: list[dict], provenance: dict):
    """Cosine and length of the mean of sigma(g_B) over B, a panel for each point of the path; bars show the seeds."""
    epochs = sorted({row["epoch"] for row in rows})
    figure, grid = style.plt.subplots(2, len(epochs), figsize=(11, 5.6), sharex=True, sharey="row", squeeze=False)
    for column, epoch in zip(grid.T, epochs, strict=True):
        for axes, key in zip(column, ("cosine", "length"), strict=True):
            for gamma, colour in _gammas(rows):
                line = select(rows, epoch=epoch, gamma=gamma)
                sizes = sorted({row["batch"] for row in line})
                values = [[row[key] for row in select(line, batch=size)] for size in sizes]
                middle = np.array([np.mean(part) for part in values])
                ends = [middle - [min(part) for part in values], [max(part) for part in values] - middle]
                axes.errorbar(
                    sizes, middle, ends, color=colour, marker="o", markersize=3, linewidth=1.2, label=f"γ {gamma:g}"
                )
            axes.axvline(128, color="#777777", linewidth=0.8, linestyle=(0, (1, 2)))
        column[0].set_title(f"after epoch {epoch}" if epoch else "at the start")
        column[1].set(xscale="log", yscale="log", xlabel="batch size")
    grid[0][0].set(ylabel="cosine of E σ(g) and σ(∇f)", ylim=(0, 1.25))  # above 1 it is the noise of the measurement
    grid[1][0].set_ylabel("length of E σ(g), as a share")
    grid[0][1].legend(loc="lower right", ncols=2)
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    _stamp(
        figure,
        provenance,
        f"13 layers on MNIST, {len({row['seed'] for row in rows})} seeds (mean and range); dotted: 128",
    )
    return figure


def _remaining(axes, rows: list[dict]) -> None:
    for rule, dash, marker in (("adaptive", "-", "o"), ("constant", "--", "s")):
        for beta, colour in zip(sorted({row["beta"] for row in rows}), style.COLOURS, strict=False):
            line = sorted(select(rows, rule=rule, beta=beta), key=lambda row: row["gamma"])
            gammas, values = ([row[key] for row in line] for key in ("gamma", "remaining"))
            name = "the proofs' step" if rule == "adaptive" else "tuned constant"
            axes.plot(gammas, values, dash, marker=marker, markersize=3, color=colour, label=f"{name}, β {beta:g}")
            axes.fill_between(gammas, *([row[key] for row in line] for key in ("low", "high")), color=colour,
                              alpha=0.15, linewidth=0)  # fmt: skip
    axes.set(yscale="log", xlabel="γ")


LINES = (("tuned", "constant", "tuned constant"), ("tuned", "adaptive", "the proofs' step, L tuned"),
         ("as estimated", "adaptive", "the proofs' step, L estimated at x₁"))  # fmt: skip


def _lines(rows: list[dict]):
    """(label, colour, curves by seed) of the reported settings."""
    for (use, rule, label), colour in zip(LINES, style.COLOURS, strict=False):
        chosen = select(rows, use=use, rule=rule)
        yield label, colour, [select(chosen, seed=seed) for seed in sorted({row["seed"] for row in chosen})]


def _losses(axes, rows: list[dict]) -> None:
    for label, colour, curves in _lines(rows):
        for curve in curves:
            axes.plot(*_xy(curve, "loss"), color=colour, linewidth=1.2, label=label)
            label = None
            if len(curve) and not math.isfinite(curve[-1]["loss"]):
                axes.plot(*[[part[-1]] for part in _xy(curve, "loss")], "x", color=colour)
    axes.axhline(math.log(10), color="#777777", linewidth=0.8, linestyle=(0, (1, 2)))
    axes.set(xlabel="step", ylim=(0, 3), title=f"13 layers on MNIST, γ {rows[0]['gamma']:g}")


def _learning_rates(axes, rows: list[dict]) -> None:
    for _, colour, curves in _lines(rows):
        for curve in curves:
            axes.plot(*_xy(curve, "lr"), color=colour, linewidth=1.2)
    axes.set(xlabel="step", yscale="log", title=rf"$\alpha_t$, γ {rows[0]['gamma']:g}")


def _xy(curve: list[dict], key: str) -> tuple[list, list]:
    rows = [row for row in curve if row[key] is not None and math.isfinite(row[key])]
    return [row["step_number"] for row in rows], [row[key] for row in rows]


def _gammas(rows: list[dict]):
    return zip(sorted({row["gamma"] for row in rows}), style.COLOURS, strict=False)


def _stamp(figure, provenance: dict, text: str) -> None:
    if provenance["changes"]:
        text += f" (changed: {' '.join(provenance['changes'])})"
    figure.text(0.995, 0.004, text, ha="right", va="bottom", fontsize=8, color="#555555")
