"""`--help`: a screen made from the comments of configs/train.yaml, so that nothing is said twice."""

import re
import shutil
import textwrap
from pathlib import Path

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
WIDTH = 100  # at most
PAGES = {
    "train.py": """\
Train one network with one optimizer, or many with -m.

  python train.py                                     PowerSGD, MNIST, 13 layers
  python train.py optimizer=adam optimizer.lr=1e-3 model.depth=14
  python train.py -m optimizer=powersgd optimizer.gamma=0.3,0.4,0.5
  python train.py --cfg job optimizer=adam            all settings; nothing is trained

{groups}
{What is computed}
{Where and how it runs}
Sweeps: python sweep.py --help. TAB completion of settings: docs/usage.md.""",
    "sweep.py": """\
Train all runs of an experiment, by the paper's tuning protocol.

  python sweep.py experiment=fig2 tier=smoke          all runs of a figure
  python sweep.py experiment=fig1ab tier=laptop launcher=local
  python sweep.py experiment=fig1ab tier=laptop status=true watch=true
  python sweep.py plan=true tier=laptop               runs and hours of everything

{groups of a sweep}
{What sweep.py trains}
{What else sweep.py does}
Settings of the runs themselves: python train.py --help. More: docs/usage.md.""",
}
GROUP = re.compile(r"  - (?P<key>\w+): (?P<value>\w+) +# (?P<comment>.*)")
SETTING = re.compile(r"(?P<indent> *)(?P<key>\w+):(?P<value>[^#]*)(?:# (?P<comment>.*))?")
BY_EXPERIMENTS = ("dataset", "model", "optimizer", "schedule")  # groups that experiments choose
HIDDEN = "set by"  # begins the comment of a setting that the program sets


def page(program: str) -> str:
    """The help of train.py or sweep.py."""
    found = sections((CONFIGS / "train.yaml").read_text())
    return re.sub(r"{(.*)}", lambda name: "\n".join(found[name[1]]), PAGES[program])


def sections(text: str) -> dict[str, list[str]]:
    """The lines about train.yaml's groups and its sections, by the first words of the section titles.

    A section of settings that has a comment is shown as one line: `wandb.*`.
    """
    groups, _, rest = text.split("\nhydra:")[0].partition("\n\n")
    found = {"groups": ["Groups:"], "groups of a sweep": ["Groups:"]}
    for match in GROUP.finditer(groups):
        lines = row(f"{match['key']}={match['value']}", match["comment"])
        found["groups"] += lines
        found["groups of a sweep"] += lines * (match["key"] not in BY_EXPERIMENTS)
    lines, before, section, folded = [], "", "", False
    for line in rest.splitlines():
        if line.startswith("# ") and not before.startswith("# "):
            title = re.split("[:(]", line[2:])[0].strip()
            lines = found[title] = [f"{title}:"]
        elif match := SETTING.fullmatch(line):
            key, value, comment = match["key"], match["value"].strip(), match["comment"] or ""
            if not match["indent"]:
                section, folded = "" if value else f"{key}.", bool(comment)
            if value and not (section and folded) and HIDDEN not in comment:
                lines += row(f"{section}{key}={value}", comment)
            elif not match["indent"] and comment and not value:
                lines += row(f"{section}*", comment)
        before = line
    return found


def row(name: str, comment: str) -> list[str]:
    """A setting and its comment within the width of the terminal."""
    name = re.sub(r"=\$\{.*", "=", name).rstrip()  # an interpolation is no help to the reader
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 50)).columns)
    return textwrap.wrap(f"  {name:<26} {comment}", width, subsequent_indent=" " * 29)
