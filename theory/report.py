"""The files in results/theory/: tables, and pictures and a report that are made from the tables and can be redrawn."""

import math
from pathlib import Path
from statistics import mean, median

from analysis import style
from analysis.tables import markdown
from runs import sums, table
from runs.files import read_json, write_json, write_text
from runs.schema import ConfigError
from runs.table import select

from . import draw, verdicts
from .bounds import THEOREMS, ones_norm
from .experiment import slope
from .mnist import final_loss

OPERATIONAL = ("workers=", "results=", "data_dir=", "progress=", "redraw=", "hydra")
OPTIONAL = ("mnist", "batch")  # tables that a run may leave out
CAPTIONS = {
    "theory": "The four bounds: what was measured, as a share of the bound.",
    "steps": "The proofs' step size against tuned constant ones.",
    "batch": "Direction and length of the mean of σ(g) over batches, against σ of the true gradient, by batch size.",
}


def store(folder: Path, computed: dict[str, list[dict]], provenance: dict) -> tuple[dict, dict]:
    """Write the tables and their provenance; returns them as read back, so that pictures are drawn from the files."""
    for name, rows in computed.items():
        path = folder / f"{name}.csv"
        if rows:
            table.write(path, rows)
        else:
            sums.remove(path)
    write_json(folder / "provenance.json", provenance)
    return load(folder)


def load(folder: Path) -> tuple[dict, dict]:
    """The tables of a folder and their provenance. Raises ConfigError if there are none or one is damaged."""
    try:
        found = {name: table.read(folder / f"{name}.csv") for name in ("bounds", "remarks", "steps")}
        found |= {name: _read(folder / f"{name}.csv") for name in OPTIONAL}
        kinds = {"seconds": float, "workers": int, "torch": str, "changes": list}
        return found, read_json(folder / "provenance.json", "restore it, or run: python -m theory", **kinds)
    except FileNotFoundError as error:
        raise ConfigError(f"{folder}: nothing can be redrawn ({error}); run: python -m theory") from None


def _read(path: Path) -> list[dict]:
    try:
        return table.read(path)
    except FileNotFoundError:
        return []


def write(folder: Path, found: dict[str, list[dict]], provenance: dict) -> list[str]:
    """Write pictures, verdicts and report from the tables. Returns the lines that the program prints."""
    pictures = style.save(draw.theorems(found["bounds"], provenance), folder / "theory", CAPTIONS["theory"])
    pictures += style.save(draw.steps(found["steps"], found["mnist"], provenance), folder / "steps", CAPTIONS["steps"])
    if found["batch"]:
        pictures += style.save(draw.batches(found["batch"], provenance), folder / "batch", CAPTIONS["batch"])
    judged = verdicts.judge(found, provenance["judged_by"])
    table.write(folder / "verdicts.csv", judged)
    write_text(folder / "README.md", report(found, judged, provenance))
    lines = [f"{verdict['verdict']}: {verdict['claim']} ({verdict['evidence']})" for verdict in judged]
    lines += [f"pictures {' '.join(map(str, pictures))}", f"tables   {folder}/bounds.csv remarks.csv steps.csv"]
    return [*lines, f"report   {folder / 'README.md'}"]


def report(found: dict[str, list[dict]], judged: list[dict], provenance: dict) -> str:
    cells = found["bounds"]
    parts = [
        "# The theorems, measured\n",
        f"{len(cells)} cells of {cells[0]['repetitions']} repetitions, float64, on the CPU in "
        f"{provenance['seconds']:.0f} s with {provenance['workers']} processes (torch {provenance['torch']}). Written "
        "by `python -m theory`; the settings and thresholds are in `configs/theory.yaml`, the problems with their "
        "proofs in `theory/problems.py`, the proofs of the paper step by step in `docs/theory-notes.md`.\n",
        f"Changed settings: `{' '.join(provenance['changes'])}`.\n" if provenance["changes"] else "",
        markdown(["claim", "section", "verdict", "evidence"],
                  [[v["claim"], v["section"], f"**{v['verdict']}**", v["evidence"]] for v in judged]),
        "![theorems](theory.svg)\n",
        "## How tight\n",
        "Measured / bound. With exact gradients (A.1, B.1) *closest* is the worst of all starting points, with "
        "stochastic ones (3.1, 3.2) the upper end of the interval of the mean.\n",
        _tightness(cells),
        "## How it scales with T\n",
        "Slope of log(measured) over log(T) between the two longest horizons; the bounds have -1. With exact "
        "gradients T times the left side is a sum of squares, which cannot fall: no slope is below -1. Median over "
        "the problems, β = 0.\n",
        _slopes_in_t(cells),
        "## How it scales with n\n",
        "Slope over log(n) of log(measured / (bound / ‖1‖_p)) at the shortest horizon, against that of "
        "‖1‖_p = n^((1-γ)/(1+γ)). Median over the problems, β = 0.\n",
        _slopes_in_n(cells),
        "## The proofs' step against tuned constant ones\n",
        "![steps](steps.svg)\n",
        "What remains of f(x) - f* after T steps with B_t = T, in mean over the repetitions; the constant is tuned on "
        "other starting points and other noise.\n",
        _steps(found["steps"]),
    ]  # fmt: skip
    if found["mnist"]:
        parts += [
            "The 13-layer network on MNIST: train loss over the last quarter of the steps, each seed. The constant and "
            "the multiple of the estimated L, were tuned on another seed. L is estimated again after the last step.\n",
            _mnist(found["mnist"]),
        ]
    if found["batch"]:
        parts += [
            "## What the size of a batch does to σ\n",
            "![batch sizes](batch.svg)\n",
            "σ is not linear, so the mean of σ(g) over batches of B is not σ(∇f). Cosine of the two, and in brackets "
            "the length of the first as a share of the second's; mean over seeds, along figure 2's PowerSGD. γ = 1 is "
            "the control: both are 1 there, but for the noise of the measurement, too large where they are not.\n",
            _batches(found["batch"]),
        ]
    return "\n".join(part for part in parts if part)


def _tightness(cells: list[dict]) -> str:
    lines = []
    for theorem in THEOREMS:
        for beta in sorted({row["beta"] for row in select(cells, theorem=theorem)}):
            rows = select(cells, theorem=theorem, beta=beta)
            ratios = [row["ratio"] for row in rows]
            closest = max(rows, key=lambda row: row["worst"])
            at = (
                f"{closest['problem']}, {closest['oracle']}, n {closest['n']}, T {closest['T']}, γ {closest['gamma']:g}"
            )
            lines.append([theorem, f"{beta:g}", f"{sum(row['holds'] for row in rows)} of {len(rows)}",
                          f"{min(ratios):.2g}", f"{median(ratios):.2g}", f"{max(ratios):.2g}",
                          f"{closest['worst']:.3f}", at])  # fmt: skip
    return markdown(["theorem", "β", "hold", "lowest", "median", "highest", "closest", "where"], lines)


def _slopes_in_t(cells: list[dict]) -> str:
    last = sorted({row["T"] for row in cells})[-2:]
    if len(last) < 2:
        return "One horizon only.\n"
    return _slopes(cells, "n", lambda rows: slope({row["T"]: row["measured"] for row in rows if row["T"] in last}))


def _slopes(cells: list[dict], column: str, fit) -> str:
    """A line for each theorem without momentum and value of `column`, a column for each gamma."""
    gammas = sorted({row["gamma"] for row in cells})
    lines = []
    for theorem, oracle in (("A.1", "exact"), ("3.1", "direct")):
        rows = select(cells, theorem=theorem, oracle=oracle)
        for value in sorted({row[column] for row in rows}):
            same = select(rows, **{column: value})
            names = {row["problem"] for row in same}
            fits = [[fit(select(same, gamma=gamma, problem=name)) for name in names] for gamma in gammas]
            lines.append([theorem, str(value), *(f"{median(values):.2f}" for values in fits)])
    return markdown(["theorem", column, *(f"γ {gamma:g}" for gamma in gammas)], lines)


def _slopes_in_n(cells: list[dict]) -> str:
    horizon = min(row["T"] for row in cells)
    gammas = sorted({row["gamma"] for row in cells})
    lines = [["‖1‖_p", *(f"{(1 - gamma) / (1 + gamma):.2f}" for gamma in gammas)]]
    for theorem, oracle in (("A.1", "exact"), ("3.1", "direct")):
        rows = select(cells, theorem=theorem, oracle=oracle, T=horizon)
        fits = [[_slope_in_n(select(rows, problem=name, gamma=gamma)) for name in {row["problem"] for row in rows}]
                for gamma in gammas]  # fmt: skip
        if rows and all(math.isfinite(value) for values in fits for value in values):
            lines.append([theorem, *(f"{median(values):.2f}" for values in fits)])
    return markdown(["theorem", *(f"γ {gamma:g}" for gamma in gammas)], lines)


def _slope_in_n(rows: list[dict]) -> float:
    if len(rows) < 2:
        return math.nan
    return slope({row["n"]: row["ratio"] * ones_norm(row["n"], row["gamma"]) for row in rows})


def _steps(rows: list[dict]) -> str:
    lines = []
    for row in select(rows, rule="adaptive"):
        (other,) = select(rows, rule="constant", **{key: row[key] for key in ("problem", "gamma", "beta")})
        tuned = f"{other['step']:.3g}" + (" (at the edge of its grid)" if other["at_edge"] else "")
        lines.append([row["problem"], f"{row['gamma']:g}", f"{row['beta']:g}", _interval(row), _interval(other), tuned])
    return markdown(["problem", "γ", "β", "the proofs' step", "tuned constant", "which"], lines)


def _interval(row: dict) -> str:
    return f"{row['remaining']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"


def _mnist(rows: list[dict]) -> str:
    lines = []
    for gamma in sorted({row["gamma"] for row in rows}):
        for use, rule, label in draw.LINES:
            chosen = select(rows, gamma=gamma, use=use, rule=rule)
            curves = [select(chosen, seed=seed) for seed in sorted({row["seed"] for row in chosen})]
            last = [curve[-1] for curve in curves]
            losses = " ".join(f"{loss:.3f}" if math.isfinite(loss) else "diverged" for loss in map(final_loss, curves))
            value = f"{last[0]['value']:g}" + (" L" if rule == "adaptive" else "")
            first, ends = ([row[key] for row in last if row[key] is not None] for key in ("lipschitz", "lipschitz_end"))
            lines.append([f"{gamma:g}", label, value, losses, _range(first), _range(ends)])
    return markdown(["γ", "rule", "value", "loss", "L at x_1", "L at the end"], lines)


def _batches(rows: list[dict]) -> str:
    sizes = sorted({row["batch"] for row in rows})
    lines = []
    for epoch in sorted({row["epoch"] for row in rows}):
        for gamma in sorted({row["gamma"] for row in rows}):
            cells = [select(rows, epoch=epoch, gamma=gamma, batch=size) for size in sizes]
            values = [(mean(row["cosine"] for row in cell), mean(row["length"] for row in cell)) for cell in cells]
            shown = ["–" if math.isnan(cosine) else f"{cosine:.3f} ({length:.3g})" for cosine, length in values]
            lines.append([str(epoch), f"{gamma:g}", *shown])
    return markdown(["after epoch", "γ", *(f"B = {size}" for size in sizes)], lines)


def _range(values: list[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}" if values else ""
