"""The parts of README.md that come from the records; `python -m report` writes them between its marks."""

import re
from pathlib import Path

from analysis.claims.judge import Verdict
from analysis.style import captions
from analysis.tables import markdown
from analysis.verdicts import NOT_RUN, NOT_TESTABLE_HERE

from .claims import MARKS, counts, lead, merged
from .page import FIXED, TIERS, TITLES

STRIP = {"2": "figure2", "4": "figure4", "1": "figure1b", "5": "figure5", "7": "figure7", "theory": "theory"}
PAPER = ("fig2-sgd-fails", "fig2-powersgd-caption", "fig2-powersgd-lower-lr", "fig4-nothing-trains-15",
         "fig4-sgd-he-15", "theorem-3.1", "remark-3.3-SGD", "fig1-better-than-adaptive")  # fmt: skip
REDUCED = ("fig1-faster-than-adam", "fig1-other-adam", "fig1-better-than-adaptive", "fig5-small-lr",
           "fig5-small-lr-sgdm")  # fmt: skip


def refreshed(text: str, results: Path, verdicts: dict[str, list[Verdict]]) -> str:
    """README's text with its strip of figures and its tables of claims updated from the records."""
    reduced = {tier: found for tier, found in verdicts.items() if tier != "paper"}
    parts = {"figures": strip(results, verdicts), "paper": told({"paper": verdicts["paper"]}, PAPER),
             "reduced": told(reduced, REDUCED)}  # fmt: skip
    for name, part in parts.items():
        text = re.sub(rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda mark, part=part: mark[1] + part + mark[2], text,
                      flags=re.DOTALL)  # fmt: skip
    return text


def strip(results: Path, verdicts: dict[str, list[Verdict]]) -> str:
    """A thumbnail of each figure, from the first tier that has it, with the number of its claims by verdict."""
    entries, pictures, words = merged(verdicts), [], []
    for key, name in STRIP.items():
        path = next(path for path in (results / tier / f"{name}.png" for tier in (*verdicts, name)) if path.exists())
        where = f"results/{path.relative_to(results)}"
        pictures.append(f"[![{captions(path.parent)[name]['caption']}]({where})]({where})")
        lines = []
        for tier in [*verdicts, ""]:
            found = counts([entry for entry in entries if entry.figure == key], tier)
            if any(count for kind, count in found.items() if kind != NOT_RUN):
                each = ", ".join(f"{count} {MARKS[kind]} {kind}" for kind, count in found.items() if count)
                lines.append(f"{TIERS.get(tier, '')}: {each}".removeprefix(": "))
        words.append(f"**{TITLES[key].partition(':')[0]}.** {'<br>'.join(lines)}")
    return "".join(markdown(pictures[i : i + 3], [words[i : i + 3]]) + "\n" for i in range(0, len(pictures), 3))


def told(verdicts: dict[str, list[Verdict]], keys: tuple[str, ...]) -> str:
    """Each claim at the first tier that has judged it."""
    lines = []
    for key in keys:
        found = [(tier, one) for tier, some in verdicts.items() for one in some if one.key == key]
        judged = [tier for tier, one in found if one.verdict != NOT_RUN] or [tier for tier, _ in found]
        for tier, one in found:
            if tier == judged[0] and (one.verdict != NOT_RUN or one is found[0][1]):
                fixed = FIXED.get(one.fixed.partition(" (")[0], "")
                lines.append([one.claim, f"{MARKS[one.verdict]} {one.verdict}", evidence(one),
                              "; ".join(filter(None, [TIERS[tier] * (tier != "paper"), fixed]))])  # fmt: skip
    return markdown(["claim", "verdict", "evidence", "the test"], lines)


def evidence(one: Verdict) -> str:
    """The verdict's numbers, at most those of two parts; or why the tier cannot test the claim."""
    if one.verdict in (NOT_RUN, NOT_TESTABLE_HERE) or not one.intervals:
        return lead(one)
    parts = [f"{part.name}: {part.value:{part.form}} [{part.low:{part.form}}, {part.high:{part.form}}]".lstrip(": ")
             for part in one.intervals[:2]]  # fmt: skip
    return "; ".join(parts)
