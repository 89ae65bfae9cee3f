"""A tier's REPORT.md, for places that do not show HTML."""

from pathlib import Path

from analysis.claims.judge import Verdict
from analysis.style import captions
from analysis.tables import markdown

from . import tables


def text(results: Path, tier: str, verdicts: list[Verdict]) -> str:
    folder = results / tier
    sections = [
        ("The claims", tables.verdict_table(verdicts)),
        ("The paper's numbers and ours", tables.reference_table(results, tier)),
        ("How far below SGDM", tables.gaps_table(results, tier)),
        ("What was chosen", tables.selection_table(folder)),
        ("At an equal budget of settings", tables.fairness_table(results, tier)),
        ("Where it comes from", tables.provenance_table(results, tier)),
        ("Not run", tables.not_run_table(results, tier)),
    ]
    parts = [f"# PowerSGD, reproduced: tier {tier}\n\n{tables.WARNING.get(tier, '')}\n\n## The figures\n"]
    for place in (folder, results, results / "theory"):
        about = captions(place)
        for path in sorted(place.glob("*.svg")):
            where = path.name if place == folder else f"../{path.relative_to(results)}"
            parts.append(f"![{about.get(path.stem, {}).get('alt', path.stem)}]({where})\n")
    for title, (header, lines) in sections:
        parts += [f"## {title}\n", markdown(header, lines) if lines else "Nothing.\n"]
    return "\n".join(parts)
