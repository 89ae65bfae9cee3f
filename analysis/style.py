"""The look of all figures, and how they are saved."""

import io
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from analysis import names
from analysis.statistics import curve_interval
from runs import sums
from runs.files import locked, read_json, write_json

# Okabe and Ito's colours, which can be told apart with any colour vision.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
DASHES = ["-", "--", "-.", ":"]
CAPTIONS = "captions.json"

plt.rcParams.update(
    {
        "figure.dpi": 150,
        "font.size": 9,
        "legend.fontsize": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "legend.frameon": False,
        "svg.hashsalt": "powersgd",  # the same table gives the same bytes
        "svg.fonttype": "none",
    }
)


def nth(index: int) -> tuple[str, str]:
    """Colour and dash of a picture's n-th curve; the pair is distinct for the first 28."""
    return COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]


def curves(axes, series: list[list[float]], label: str, colour: str, dash: str = "-", parts: int = 1,
           band: bool = True) -> None:  # fmt: skip
    """Draw the mean over seeds with its 95 % interval as a band (`stamp` explains it); `parts` values per epoch."""
    summary = curve_interval(series)
    epochs = np.arange(1, len(summary) + 1) / parts
    if band and len(series) > 1:
        axes.fill_between(epochs, summary[:, 1], summary[:, 2], color=colour, alpha=0.12, linewidth=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.plot(epochs, summary[:, 0], dash, color=colour, linewidth=1.8, label=label)


def paper_line(axes, value: float, text: str) -> None:
    """Draw a value that the paper states, marked as the paper's."""
    axes.axhline(value, color="#777777", linewidth=0.8, linestyle=(0, (1, 2)))
    axes.annotate(text, (1, value), (1, value + 0.015), fontsize=8, color="#555555")


def listed(axes) -> list:
    """What plt.subplots returned, as a list."""
    return list(np.ravel(axes))


def heatmap(axes, values: np.ndarray, low: float, high: float, shown):
    """Draw a cell for each value [rows, columns], dark for high, with the text `shown(row, column)`. NaN is hatched.

    Returns the mesh for `scale`.
    """
    # Cells with edges instead of an image, which would be a bitmap in the SVG.
    mesh = axes.pcolormesh(np.ma.masked_invalid(values), cmap="Blues", vmin=low, vmax=high, edgecolors="#bbbbbb",
                           linewidth=0.5)  # fmt: skip
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            box = plt.Rectangle((column, row), 1, 1, fill=False, hatch="///", edgecolor="#aaaaaa", linewidth=0)
            axes.add_patch(box)
        else:
            light = np.dot(mesh.to_rgba(value)[:3], (0.299, 0.587, 0.114)) > 0.55
            axes.text(column + 0.5, row + 0.5, shown(row, column), ha="center", va="center", fontsize=8,
                      color="black" if light else "white")  # fmt: skip
    axes.grid(False)
    axes.set_xticks(np.arange(values.shape[1]) + 0.5)
    axes.set_yticks(np.arange(values.shape[0]) + 0.5)
    axes.tick_params(length=0)
    return mesh


def scale(figure, mesh, panels, label: str) -> None:
    """Draw a colour bar to the right of the heatmaps."""
    figure.colorbar(mesh, ax=panels, label=label, fraction=0.03, pad=0.02).outline.set_visible(False)


def log_axis(axis) -> None:
    """Make an axis logarithmic, labelled with plain numbers even if the values span less than a decade."""
    axis.axes.set_yscale("log")
    low, high = axis.get_view_interval()
    if high < 30 * low:
        axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if high < 8 * low else (1, 2, 5)))
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_formatter(NullFormatter())


TIERS = {"paper": "At the paper's scale.", "laptop": "At a laptop's scale: smaller networks, fewer steps.",
         "short": "At a reduced scale: smaller networks, 15 epochs of 10,000 images.",
         "smoke": "A smoke test: shows that it runs, not what holds."}  # fmt: skip


def stamp(figure, provenance: dict, legend=None) -> None:
    """Write on the picture its scale, seeds and runs, what is missing, and what a band means.

    legend: axes whose curves a legend above that text explains; the figure then needs a constrained layout.
    """
    runs, shown, missing = provenance["runs"], provenance["shown"], provenance["missing"]
    fewer = "Up to " if missing and len(provenance["seeds"]) > 1 else ""
    text = TIERS.get(provenance["tier"], "With settings of one's own.")
    text += f" {fewer}{counted(len(provenance['seeds']), 'seed')}, "
    text += counted(runs, "run") if shown == runs else f"{shown} of the experiment's {runs} runs"
    if provenance["changes"]:
        text += f" (changed: {' '.join(provenance['changes'])})"
    if missing:
        labels = dict.fromkeys(names.entry(name.split(", lr ")[0]) for name in missing)
        text += f"; {counted(len(missing), 'run')} not made yet ({', '.join([*labels][:4])}{', …' * (len(labels) > 4)})"
    if provenance["other_data"]:
        text += f"; OTHER DATA in {', '.join(provenance['other_data'])}"
    if len(provenance["environments"]) > 1:  # the report says which
        text += f"; made with {len(provenance['environments'])} versions of code or machine"
    if any(isinstance(part, PolyCollection) for axes in figure.axes for part in axes.collections):
        text += ". Band: 95 % interval of the mean over seeds"
    lines = textwrap.wrap(text, int(15 * figure.get_figwidth()))  # of 8 points, so many fit in an inch
    figure.text(0.995, 0.005, "\n".join(lines), ha="right", va="bottom", fontsize=8, color="#555555")
    if isinstance(engine := figure.get_layout_engine(), ConstrainedLayoutEngine):
        inches = 0.16 * len(lines)
        if legend:
            handles, labels = legend.get_legend_handles_labels()
            place = {"loc": "lower center", "bbox_to_anchor": (0.5, inches / figure.get_figheight())}
            figure.legend(handles, labels, ncols=2, columnspacing=1, **place)
            inches += 0.17 * -(-len(labels) // 2) + 0.15
        high = inches / figure.get_figheight()
        engine.set(rect=(0, high, 1, 1 - high))


def reduced(provenance: dict) -> str:
    """What a title adds to the names of the network and the data set."""
    return "" if provenance["tier"] == "paper" else ", reduced"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def save(figure, path: Path, caption: str) -> list[Path]:
    """Write path.svg (without a date) and path.png; and the caption and alt text into captions.json beside them."""
    written = [path.with_suffix(".svg"), path.with_suffix(".png")]
    images, alt = [io.BytesIO(), io.BytesIO()], described(figure, caption)
    figure.savefig(images[0], format="svg", metadata={"Date": None})
    figure.savefig(images[1], format="png", dpi=200, metadata={"Software": None})
    plt.close(figure)
    for file, image in zip(written, images, strict=True):
        sums.write(file, image.getvalue())
    with locked(path.parent):
        found = captions(path.parent) | {path.name: {"caption": caption, "alt": alt}}
        write_json(path.parent / CAPTIONS, dict(sorted(found.items())))
    return written


SPOKEN = {"$": "", "\\alpha": "α", "\\gamma": "γ", "\\|": "‖", "{": "", "}": ""}  # of matplotlib's mathematics


def described(figure, caption: str) -> str:
    """The alt text of a picture: its caption, and each panel's axes and curves."""
    parts = [caption, figure.get_suptitle()] if figure.get_suptitle() else [caption]
    for axes in figure.axes:
        title, across, up = axes.get_title(), axes.get_xlabel(), axes.get_ylabel()
        labels = [label for label in axes.get_legend_handles_labels()[1] if not label.startswith("_")]
        words = [title, f"{up} over {across}" if up and across else up or across, ", ".join(labels)]
        if axes.get_visible() and axes.axison and any(words):
            parts.append("; ".join(filter(None, words)))
    text = " ".join(" ".join(f"{part.rstrip('.')}." for part in parts).split())
    for written, read in SPOKEN.items():
        text = text.replace(written, read)
    return text


def captions(folder: Path) -> dict[str, dict[str, str]]:
    """Caption and alt text of a folder's pictures, by their names. Raises DamagedFile."""
    try:
        return read_json(folder / CAPTIONS, "delete it and draw the figures again")
    except FileNotFoundError:
        return {}
