"""The statements of the theorems, the remarks and B.3, and the verdicts on them. Pure functions of the tables' rows."""

from analysis.statistics import t_interval
from analysis.verdicts import INCONCLUSIVE, NOT_REPRODUCED, NOT_RUN, REPRODUCED
from runs.table import select

from .bounds import THEOREMS

CLAIMS = {
    "A.1": "PowerGD: the mean of ||grad f(x_t)||^2 is at most 2 L ||1||_p (f(x_1) - f*) / T.",
    "B.1": "PowerGDM: the same with the factor (1 + beta) / (1 - beta).",
    "3.1": "PowerSGD: the mean of E||g_t||^2 is at most the bound, for B_t = T.",
    "3.2": "PowerSGDM: the same with the factor (1 + beta) / (1 - beta) at f(x_1) - f*.",
}


def judge(tables: dict[str, list[dict]], settings: dict) -> list[dict]:
    """The verdicts as rows, in the paper's order. settings: the thresholds of `judged_by`."""
    remarks = tables["remarks"]
    found = [_theorem(name, select(tables["bounds"], theorem=name)) for name in THEOREMS]
    found += [
        _all(remarks, "A.2", "The mean of m oracle calls has variance sigma^2 / m.", "A.2"),
        _all(remarks, "3.2", "With sigma = 0 and eps -> 0, theorem 3.1 becomes theorem A.1.", "remark 3.2"),
        _all(remarks, "3.3 rate", "With exact gradients PowerSGD converges in the order O(1/T).", "remark 3.3"),
        _all(remarks, "3.3 slope", "That order is the true one: in the lowest dimension the slope over T is near -1.",
             "remark 3.3"),
        _all(remarks, "3.3 SGD", "At gamma = 1 the bound is the best known one for SGD, also in its constants.",
             "1, contribution 2; remark 3.3", "A factor of at most 2, at a batch of T."),
        _all(remarks, "3.4 SGDM", "At gamma = 1 theorem 3.2 is sharp for SGDM, also in its constants.",
             "1, contribution 2; remark 3.4", "The smaller bound is derived here, so “best known” may still have been "
             "true; Yan et al. (2018) need a bound on the gradient and were compared in their rate only."),
        _all(remarks, "3.4", "At beta = 0, theorem 3.2 is theorem 3.1.", "remarks 3.4 and B.1"),
        _batch(remarks),
        _all(remarks, "B.1", "With sigma = 0 and eps -> 0, theorem 3.2 becomes theorem B.1.", "remark B.1"),
        _all(remarks, "sharp A.1", "The bound of PowerGD is sharp: some f attains it.", "remarks 3.3 and B.1"),
        _all(remarks, "B.3", "The bounds on g_t are bounds on the true gradient (here with the factor 1).", "B.3"),
        _all(remarks, "B.3 reverse", "The estimates of both are equivalent up to a constant factor (D + 1/4).",
             "B.3, last sentence", "The paper shows one direction; at gamma = 0 the factor is the dimension."),
        _direction(tables["batch"], **settings),
    ]  # fmt: skip
    return found


def _theorem(name: str, rows: list[dict]) -> dict:
    if not rows:
        return _row(f"theorem {name}", CLAIMS[name], f"theorem {name}", NOT_RUN, "")
    held = sum(row["holds"] for row in rows)
    closest = max(rows, key=lambda row: row["worst"])
    evidence = (
        f"{held} of {len(rows)} cells hold; closest: {closest['worst']:.3f} of the bound ({closest['problem']}, "
        f"n {closest['n']}, T {closest['T']}, gamma {closest['gamma']:g}, beta {closest['beta']:g})"
    )
    return _row(f"theorem {name}", CLAIMS[name], f"theorem {name}", _word(held == len(rows)), evidence)


def _all(remarks: list[dict], remark: str, claim: str, section: str, objection: str = "") -> dict:
    """Reproduced if every row of the remark holds; the evidence is the row farthest over (or closest to) its limit."""
    rows = select(remarks, remark=remark)
    if not rows:
        return _row(f"remark {remark}", claim, section, NOT_RUN, "")
    held = sum(row["holds"] for row in rows)
    telling = max(rows, key=lambda row: (not row["holds"], row["measured"] - row["limit"]))
    evidence = f"{held} of {len(rows)} cases hold; {_case(telling)}"
    return _row(f"remark {remark}", claim, section, _word(held == len(rows)), evidence, objection)


def _batch(remarks: list[dict]) -> dict:
    """A large batch is needed if B_t = 1 misses the bound at the largest T, for g_t and for the true gradient."""
    claim = "A large mini-batch is needed for the bounds to hold."
    rows = [row for row in select(remarks, remark="3.4 batch") if "B_t = 1:" in row["case"]]
    if not rows:
        return _row("remark 3.4 batch", claim, "remark 3.4", NOT_RUN, "")
    rows = [row for row in rows if row["T"] == max(row["T"] for row in rows)]
    missed = [row for row in rows if not row["holds"]]
    least = min(rows, key=lambda row: row["measured"] / row["limit"])
    evidence = (
        f"B_t = 1, T = {least['T']}: the bound for B_t = T is missed in {len(missed)} of {len(rows)} cases, by the "
        f"factor {least['measured'] / least['limit']:.3g} or more"
    )
    return _row("remark 3.4 batch", claim, "remark 3.4", _word(len(missed) == len(rows)), evidence)


def _direction(rows: list[dict], *, gamma: float, cosine: float, level: float) -> dict:
    """The point of the path with the lowest mean cosine over the seeds decides."""
    claim = (
        f"A batch of 128, the experiments', is large enough for direction: all along figure 2's path (gamma {gamma:g}) "
        f"the mean of sigma(g_t) has a cosine of {cosine:g} or more with sigma(grad f)."
    )
    section = "4.1, against B_t = T in theorem 3.1; not stated there"
    objection = "The limit is ours, and so is the choice of one network; a mean that turns need not converge worse."
    rows = select(rows, gamma=gamma, batch=128)
    if not rows:
        return _row("remark 3.4 batch 128", claim, section, NOT_RUN, "", objection)
    points = {
        epoch: t_interval([row["cosine"] for row in select(rows, epoch=epoch)], level)
        for epoch in sorted({row["epoch"] for row in rows})
    }
    epoch, (mean, low, high) = min(points.items(), key=lambda point: point[1][0])
    verdict = REPRODUCED if low >= cosine else NOT_REPRODUCED if high < cosine else INCONCLUSIVE
    seeds = len({row["seed"] for row in rows})
    evidence = f"lowest after epoch {epoch}: {mean:.3f} [{low:.3f}, {high:.3f}] over {seeds} seeds"
    return _row("remark 3.4 batch 128", claim, section, verdict, evidence, objection)


def _case(row: dict) -> str:
    where = [f"{key} {row[key]:g}" for key in ("n", "T", "gamma", "beta") if row[key] is not None]
    where = ", ".join([row["problem"], *where] if row["problem"] else where)
    return f"{row['case']}: {row['measured']:.4g} (limit {row['limit']:.4g}{'; ' + where if where else ''})"


def _word(holds: bool) -> str:
    return REPRODUCED if holds else NOT_REPRODUCED


def _row(name: str, claim: str, section: str, verdict: str, evidence: str, objection: str = "") -> dict:
    """name: that of the theorem or remark in the tables. objection: the strongest one, if there is any."""
    return {"key": name.replace(" ", "-"), "claim": claim, "section": section, "verdict": verdict,
            "evidence": evidence, "objection": objection}  # fmt: skip
