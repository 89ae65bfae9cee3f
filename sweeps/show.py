"""What `plan=true` and `status=true` print."""

import math
import shutil
import sys
import textwrap
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from runs.files import DamagedFile, locked, make_folder, read_json, write_json
from runs.schema import ConfigError
from runs.table import TableError

from .cost import Cost, Costs
from .place import Place
from .plan import Job, Plan, counts

WIDTH = 80  # at most
WATCH_SECONDS = 5
LOG_SECONDS = 60  # in a file
STATES = ("finished", "diverged", "running", "stopped", "failed", "waiting", "archived")


@dataclass
class Price:
    """What runs cost at a place: their estimates, and the hours as (least, likely, most)."""

    place: Place
    costs: list[Cost]
    disk_gb: float = 0.0

    @property
    def hours(self) -> tuple[float, float, float]:
        """Hours of this machine with all its cores, or GPU hours where GPUs train."""
        slots = 1 if self.place.on_gpu else self.place.slots
        least, likely, most = (
            sum(cost.seconds * cost.spread**sign for cost in self.costs) / 3600 / slots for sign in (-1, 0, 1)
        )
        return least, likely, most

    @property
    def gpu_hours(self) -> float:
        return sum(cost.gpu_seconds for cost in self.costs) / 3600

    @property
    def days(self) -> float:
        return self.hours[1] / (self.place.slots if self.place.on_gpu else 1) / 24

    def __str__(self) -> str:
        least, likely, most = self.hours
        known = most < 1.01 * least or duration(least) == duration(most)
        text = duration(likely) if known else f"{duration(least)} to {duration(most)}"
        sources = spelled(Counter(cost.source for cost in self.costs))
        if self.place.on_gpu:
            return f"about {text} of a GPU, {self.days:.1f} days on {self.place.slots} ({sources})"
        return f"about {text} on this machine ({sources})"


def price(plan: Plan, place: Place, jobs: list[Job], to_come: list[dict], seen: frozenset[str] = frozenset()) -> Price:
    """The price of these jobs without those already seen, and of the runs to come."""
    estimates = Costs(plan.jobs, plan.results, place)
    found = [job for job in {job.run.id: job for job in jobs}.values() if job.run.id not in seen]
    configs = [*(job.config for job in found), *to_come]
    return Price(place, [estimates.of(one) for one in configs], sum(map(estimates.disk_gb, configs)))


def wanted(plan: Plan, place: Place, seen: frozenset[str] = frozenset()) -> Price:
    """The price of what this command is to train of a plan."""
    return price(plan, place, plan.wanted(), [] if plan.only else plan.to_come, seen)


def total(plans: list[Plan], place: Place) -> Price:
    """The price of several plans; runs that two of them share count once."""
    costs, disk, seen = [], 0.0, frozenset[str]()
    for plan in plans:
        found = wanted(plan, place, seen)
        costs, disk = costs + found.costs, disk + found.disk_gb
        seen |= {job.run.id for job in plan.wanted()}
    return Price(place, costs, disk)


def summary(plan: Plan, place: Place) -> str:
    """The plan in a line: how many runs, how many of them are done, and what the rest costs."""
    jobs = plan.wanted()
    text = f"{plan.experiment}, tier {plan.label}: {len(plan.jobs)} runs, {len(plan.jobs) - len(plan.missing())} done"
    choosing = sorted({str(job.config["experiment"]) for jobs in plan.elsewhere.values() for job in jobs})
    if plan.to_come:
        text += f", at least {len(plan.to_come)} more once {' and '.join(choosing) or 'the grid'} has chosen"
    text += f"; of {' and '.join(plan.only)} {len(jobs)} to train" if plan.only else ""
    if not jobs:
        return text
    return f"{text}; {sum(job.config['epochs'] for job in jobs)} epochs to train, {wanted(plan, place)}"


def refuse_over_budget(plans: list[Plan], place: Place, budget: float) -> None:
    """Raises ConfigError if the runs to train are likely to take more hours than the budget."""
    found = total(plans, place)
    hours = found.hours[1]
    if hours > budget:
        what = "GPU hours" if place.on_gpu else "hours"
        raise ConfigError(
            f"the plan needs {found}, more than budget={budget:g} {what}; choose tier=laptop or tier=smoke, or "
            f"allow it with budget={math.ceil(hours)}"
        )


def spelled(sources: Counter) -> str:
    words = {"measured": "measured", "calibrated": "calibrated", "gpu-check": "from gpu-check",
             "arithmetic": "from multiply-adds, not measured"}  # fmt: skip
    return ", ".join(words[name] if len(sources) == 1 else f"{count} {words[name]}" for name, count in sources.items())


def duration(hours: float) -> str:
    if hours < 1 / 60:
        return "a minute"
    return f"{60 * hours:.0f} minutes" if hours < 2 else f"{hours:,.0f} hours"


def keep_costs(plans: list[Plan | str], place: Place) -> None:
    """Write how many runs each plan misses and what they cost into results/<tier>/costs.json, for the report.

    Experiments that this command did not plan keep their entries, unless the file is damaged; a custom plan gets none.
    """
    for plan in plans:
        if isinstance(plan, str) or plan.label == "custom":
            continue
        path = plan.results / plan.label / "costs.json"
        found = price(plan, place, plan.missing(), plan.to_come)
        entry = {"missing": len(plan.missing()) + len(plan.to_come),
                 "hours": found.days * 24, "gpu_hours": found.gpu_hours}  # fmt: skip
        make_folder(path.parent)
        with locked(path.parent):
            try:
                kept = read_json(path, "", experiments=dict)["experiments"]
            except (FileNotFoundError, DamagedFile):
                kept = {}
            write_json(path, {"experiments": dict(sorted((kept | {plan.experiment: entry}).items()))})


def plan_table(plans: list[Plan | str], place: Place) -> str:
    """A line for each plan, or the text that replaces one, and the sum over distinct runs."""
    hours = "GPU hours" if place.on_gpu else "hours here"
    columns = [hours] if place.on_gpu else [hours, "GPU hours"]
    header = "".join(
        f" {column:>16}" if column == hours else f" {column:>10}" for column in [*columns, "days", "disk GB"]
    )
    lines = [f"{'experiment':20} {'runs':>6} {'done':>6} {'to come':>8}{header}  from"]
    real = [plan for plan in plans if not isinstance(plan, str)]
    for plan in plans:
        if isinstance(plan, str):
            lines.append(plan)
            continue
        runs = [job for job in plan.jobs if not plan.only or job.label in plan.only]
        done = sum(job.done for job in runs)
        to_come, found = [] if plan.only else plan.to_come, wanted(plan, place)
        lines.append(
            f"{plan.experiment:20} {len(runs):6,d} {done:6,d} {len(to_come) or '':>8}{_cells(found)}  "
            f"{spelled(Counter(cost.source for cost in found.costs))}"
        )
    lines.append(f"{'together':43}{_cells(total(real, place))}")
    lines.append("Runs that two experiments share count once in the sum. Runs may end before their last epoch.")
    lines.append("Refinement is not included. What was not measured is computed from multiply-adds, which may be wrong")
    lines.append(
        "by a factor of 4" + ("." if place.on_gpu else "; GPU hours assume 20 TFLOP/s in float32 or 120 in bf16.")
    )
    together = max((job.config["launcher"]["gpus_per_run"] for plan in real for job in plan.jobs), default=1)
    if together > 1:
        lines.append(f"A run on {together} GPUs is assumed to be {together} times as fast; that was never measured.")
    return "\n".join(lines)


def _cells(found: Price) -> str:
    least, likely, most = found.hours
    hours = f"{likely:,.1f}" if most < 1.01 * least or not likely else f"{least:,.1f} - {most:,.1f}"
    gpu = "" if found.place.on_gpu else f" {found.gpu_hours:10,.1f}"
    return f" {hours:>16}{gpu} {found.days:10,.1f} {found.disk_gb:10,.1f}"


def status_table(plan: Plan, place: Place) -> str:
    """A line for each grid entry with the states of its runs and the best test accuracy so far; then the time left."""
    entries: dict[str, list[Job]] = {}
    for job in plan.jobs:
        entries.setdefault(job.label, []).append(job)
    found = {label: counts(jobs) for label, jobs in entries.items()}
    states = [state for state in STATES if any(count[state] for count in found.values())]
    wide = max(5, *map(len, entries))
    lines = [f"{'entry':{wide}} {'runs':>5} {' '.join(f'{state:>8}' for state in states)} {'best':>7}"]
    for label, jobs in entries.items():
        cells = " ".join(f"{found[label][state] or '':>8}" for state in states)
        lines.append(f"{label:{wide}} {len(jobs):5,d} {cells} {best(jobs):>7}")
    told = [f"chosen for {selection.label}: {selection.reason}" for selection in plan.selections]
    for line in [*told, summary(plan, place)]:
        lines += textwrap.wrap(line, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns), subsequent_indent="  ")
    return "\n".join(lines)


def watch(experiments: list, place: Place) -> None:
    """Print the state of a sweep repeatedly until nothing is left to train; Ctrl-C ends it.

    experiments: experiments, or lines that replace those that do not exist.
    """
    terminal = sys.stdout.isatty()
    while True:
        plans = [one if isinstance(one, str) else one.plan() for one in experiments]
        tables = [plan if isinstance(plan, str) else status_table(plan, place) for plan in plans]
        print(("\033[H\033[J" if terminal else "") + "\n\n".join(tables), flush=True)
        if not any(plan.wanted() or plan.to_come for plan in plans if isinstance(plan, Plan)):
            return
        time.sleep(WATCH_SECONDS if terminal else LOG_SECONDS)


def best(jobs) -> str:
    accuracies = []
    for job in jobs:
        with suppress(TableError):  # damaged rows of an unfinished run are restored when it resumes
            accuracies += [row["test_acc"] for row in job.rows()]
    return f"{max(accuracies):.4f}" if accuracies else ""
