"""How all figures look, and how they are saved."""

import io
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from analysis.statistics import curve_interval
from runs import sums
from runs.files import locked, read_json, write_json

# Okabe and Ito's colours, told apart with any colour vision.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
DASHES = ["-", "--", "-.", ":"]
CAPTIONS = "captions.json"

plt.rcParams.update(
    {
        "figure.dpi": 150,
        "font.size": 9,
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
    """Colour and dash of the n-th curve of a picture, together distinct for the first 28."""
    return COLOURS[index % len(COLOURS)], DASHES[(index + index // len(COLOURS)) % len(DASHES)]


def curves(axes, series: list[list[float]], label: str, colour: str, dash: str = "-", parts: int = 1) -> None:
    """Mean over seeds with its 95 % interval, the single runs faint behind it; `parts` values an epoch."""
    for values in series:
        axes.plot(np.arange(1, len(values) + 1) / parts, values, dash, color=colour, alpha=0.25, linewidth=0.7)
    summary = curve_interval(series)
    epochs = np.arange(1, len(summary) + 1) / parts
    axes.fill_between(epochs, summary[:, 1], summary[:, 2], color=colour, alpha=0.15, linewidth=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.plot(epochs, summary[:, 0], dash, color=colour, linewidth=1.8, label=label)


def paper_line(axes, value: float, text: str) -> None:
    """A value that the paper states, marked as the paper's."""
    axes.axhline(value, color="#777777", linewidth=0.8, linestyle=(0, (1, 2)))
    axes.annotate(text, (1, value), (1, value + 0.015), fontsize=7, color="#555555")


def listed(axes) -> list:
    """What plt.subplots returned, as a list."""
    return list(np.ravel(axes))


def heatmap(axes, values: np.ndarray, low: float, high: float, shown) -> None:
    """A cell for each value [rows, columns], dark for high; `shown(value)` is written in it. NaN is hatched."""
    # Cells with edges, not an image: an SVG image would be a bitmap.
    axes.pcolormesh(np.ma.masked_invalid(values), cmap="Blues", vmin=low, vmax=high, edgecolors="#bbbbbb",
                    linewidth=0.5)  # fmt: skip
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            box = plt.Rectangle((column, row), 1, 1, fill=False, hatch="///", edgecolor="#aaaaaa", linewidth=0)
            axes.add_patch(box)
        else:
            dark = value > (low + high) / 2
            axes.text(column + 0.5, row + 0.5, shown(value), ha="center", va="center", fontsize=7,
                      color="white" if dark else "black")  # fmt: skip
    axes.grid(False)
    axes.set_xticks(np.arange(values.shape[1]) + 0.5)
    axes.set_yticks(np.arange(values.shape[0]) + 0.5)
    axes.tick_params(length=0)


def log_axis(axis) -> None:
    """Logarithmic, with plain numbers as labels also where the values span less than a decade."""
    axis.axes.set_yscale("log")
    low, high = axis.get_view_interval()
    if high < 30 * low:
        axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if high < 8 * low else (1, 2, 5)))
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_formatter(NullFormatter())


def stamp(figure, provenance: dict) -> None:
    """The tier, the seeds and the runs that are shown, on the face of the picture; what is missing, by its label."""
    runs, shown, missing = provenance["runs"], provenance["shown"], provenance["missing"]
    fewer = "up to " if missing and len(provenance["seeds"]) > 1 else ""
    text = f"tier {provenance['tier']}, {fewer}{counted(len(provenance['seeds']), 'seed')}, "
    text += counted(runs, "run") if shown == runs else f"{shown} of {runs} runs shown"
    if provenance["changes"]:
        text += f" (changed: {' '.join(provenance['changes'])})"
    if missing:
        labels = list(dict.fromkeys(name.split(",")[0] for name in missing))
        text += f", {counted(len(missing), 'run')} missing ({', '.join(labels[:4])}{', ...' if labels[4:] else ''})"
    if provenance["other_data"]:
        text += f", OTHER DATA in {', '.join(provenance['other_data'])}"
    if len(provenance["environments"]) > 1:  # commits, versions, devices: the report says which
        text += f", {len(provenance['environments'])} environments"
    if provenance["tier"] == "smoke":
        text += ": shows that it runs, not what holds"
    text = "\n".join(textwrap.wrap(text, int(17 * figure.get_figwidth())))  # of 7 points, so many fit in an inch
    figure.text(0.995, 0.005, text, ha="right", va="bottom", fontsize=7, color="#555555")


def reduced(provenance: dict) -> str:
    """What a title adds to the name of a network and a data set."""
    return "" if provenance["tier"] == "paper" else ", reduced"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def save(figure, path: Path, caption: str) -> list[Path]:
    """Write path.svg and path.png, the SVG without a date; caption and alt text into captions.json beside them."""
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


def described(figure, caption: str) -> str:
    """What a picture shows to those who cannot see it: its caption, and each panel's axes and curves."""
    parts = [caption]
    for axes in figure.axes:
        title, across, up = axes.get_title(), axes.get_xlabel(), axes.get_ylabel()
        names = [label for label in axes.get_legend_handles_labels()[1] if not label.startswith("_")]
        words = [title, f"{up} over {across}" if up and across else up or across, ", ".join(names)]
        if axes.get_visible() and axes.axison and any(words):
            parts.append("; ".join(filter(None, words)))
    return " ".join(" ".join(f"{part.rstrip('.')}." for part in parts).replace("$", "").split())


def captions(folder: Path) -> dict[str, dict[str, str]]:
    """What the pictures of a folder show, by their names: a caption and an alt text. Raises DamagedFile."""
    try:
        return read_json(folder / CAPTIONS, "delete it and draw the figures again")
    except FileNotFoundError:
        return {}
