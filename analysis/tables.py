"""Small tables as Markdown and LaTeX."""

from analysis.statistics import t_interval

LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#"}


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; a | inside a cell is escaped."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (header, ["---"] * len(header), *rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def interval(values) -> str:
    """Mean over seeds and its 95 % interval by Student's t; only the value if there is one seed."""
    mean, low, high = t_interval(values)
    return f"{mean:.4f}" + (f" [{low:.4f}, {high:.4f}]" if len(values) > 1 else "")


def latex(header: list[str], rows: list[list[str]], caption: str, label: str) -> str:
    """A booktabs table; a cell between dollar signs is mathematics and is not escaped."""
    body = [" & ".join(_escaped(cell) for cell in line) + r" \\" for line in [header, *rows]]
    lines = [
        r"\begin{table}",
        rf"\caption{{{_escaped(caption)}}}\label{{{label}}}",
        rf"\begin{{tabular}}{{{'l' * len(header)}}}",
        r"\toprule",
        body[0],
        r"\midrule",
        *body[1:],
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def both(name: str, title: str, header: list[str], rows: list[list[str]], notes: str = "") -> dict[str, str]:
    """The table as Markdown and as LaTeX, by their file names."""
    text = f"# {title}\n\n{markdown(header, rows)}" + (f"\n{notes.strip()}\n" if notes else "")
    return {f"{name}.md": text, f"{name}.tex": latex(header, rows, title, f"tab:{name}")}


def _escaped(text: str) -> str:
    if text.startswith("$") and text.endswith("$"):
        return text
    return "".join(LATEX.get(character, character) for character in text)
