"""What `plan=true` and `status=true` print."""

import shutil
from collections import Counter
from contextlib import suppress

from runs.files import DamagedFile, locked, make_folder, read_json, write_json
from runs.table import TableError

from .cost import Costs, workers
from .plan import Job, Plan, counts

STATES = ("finished", "diverged", "running", "stopped", "failed", "waiting", "archived")


def summary(plan: Plan, launcher: dict) -> str:
    """The plan in a line: how many runs, how many are done, and what the rest costs."""
    wanted = plan.wanted()
    text = f"{plan.experiment}, tier {plan.label}: {len(plan.jobs)} runs, {len(plan.jobs) - len(plan.missing())} done"
    text += f", at least {len(plan.to_come)} more once the grid has chosen" if plan.to_come else ""
    text += f"; of {' and '.join(plan.only)} {len(wanted)} to train" if plan.only else ""
    if not wanted:
        return text
    hours, source = machine_hours(plan, launcher)
    text += f"; {sum(job.config['epochs'] for job in wanted)} epochs to train"
    return f"{text}, about {duration(hours)} on this machine ({source})"


def machine_hours(plan: Plan, launcher: dict) -> tuple[float, str]:
    """Hours of this machine for what this command is to train, and where that comes from."""
    estimates = Costs(plan.jobs, plan.results)
    sources = Counter(estimates.of(job.config).source for job in plan.wanted())
    seconds, _ = _seconds(plan, plan.wanted(), [] if plan.only else plan.to_come)
    return seconds / workers(launcher) / 3600, spelled(sources)


def spelled(sources: Counter) -> str:
    words = {"measured": "measured", "calibrated": "calibrated", "arithmetic": "from multiply-adds, not measured"}
    return ", ".join(words[name] if len(sources) == 1 else f"{count} {words[name]}" for name, count in sources.items())


def duration(hours: float) -> str:
    if hours < 1 / 60:
        return "a minute"
    return f"{60 * hours:.0f} minutes" if hours < 2 else f"{hours:,.0f} hours"


def keep_costs(plans: list[Plan | str], launcher: dict) -> None:
    """Write what is missing of each plan and what it costs into results/<tier>/costs.json, for the report.

    Experiments that this command did not plan keep their entries, unless the file is damaged; a custom plan has none.
    """
    for plan in plans:
        if isinstance(plan, str) or plan.label == "custom":
            continue
        path = plan.results / plan.label / "costs.json"
        hours, gpu = (seconds / 3600 for seconds in _seconds(plan, plan.missing(), plan.to_come))
        entry = {"missing": len(plan.missing()) + len(plan.to_come),
                 "hours": hours / workers(launcher), "gpu_hours": gpu}  # fmt: skip
        make_folder(path.parent)
        with locked(path.parent):
            try:
                kept = read_json(path, "", experiments=dict)["experiments"]
            except (FileNotFoundError, DamagedFile):
                kept = {}
            write_json(path, {"experiments": dict(sorted((kept | {plan.experiment: entry}).items()))})


def _seconds(plan: Plan, jobs: list[Job], to_come: list[dict]) -> tuple[float, float]:
    """Here and on a GPU, of these jobs and of runs like those that are to come."""
    estimates = Costs(plan.jobs, plan.results)
    found = [estimates.of(config) for config in (*(job.config for job in jobs), *to_come)]
    return sum(cost.seconds for cost in found), sum(cost.gpu_seconds for cost in found)


def plan_table(plans: list[Plan | str], launcher: dict) -> str:
    """A line for each plan, or for the text that stands in the place of one, and the sum over distinct runs."""
    lines = [f"{'experiment':14} {'runs':>6} {'done':>6} {'to come':>8} {'hours here':>12} {'GPU hours':>10}  from"]
    together, seen = [0.0, 0.0], set()
    for plan in plans:
        if isinstance(plan, str):
            lines.append(plan)
            continue
        estimates, to_come = Costs(plan.jobs, plan.results), [] if plan.only else plan.to_come
        found = {job.run.id: estimates.of(job.config) for job in plan.wanted()}
        here, gpu = _seconds(plan, plan.wanted(), to_come)
        runs = len([job for job in plan.jobs if not plan.only or job.label in plan.only])
        lines.append(
            f"{plan.experiment:14} {runs:6,d} {runs - len(plan.wanted()):6,d} {len(to_come) or '':>8} "
            f"{here / workers(launcher) / 3600:12,.1f} {gpu / 3600:10,.1f}  "
            f"{spelled(Counter(cost.source for cost in found.values()))}"
        )
        shared = [cost for name, cost in found.items() if name in seen]
        together[0] += here - sum(cost.seconds for cost in shared)
        together[1] += gpu - sum(cost.gpu_seconds for cost in shared)
        seen |= set(found)
    lines.append(f"{'together':30} {together[0] / workers(launcher) / 3600:21,.1f} {together[1] / 3600:10,.1f}")
    lines.append("Runs that two experiments share count once in the sum. Runs may end before their last epoch. GPU")
    lines.append("hours assume 20 TFLOP/s in float32 and were never measured; refinement is not in the numbers.")
    return "\n".join(lines)


def status_table(plan: Plan, launcher: dict) -> str:
    """A line for each grid entry: the states of its runs and the best test accuracy so far, and the time left."""
    widths = " ".join(f"{name:>9}" for name in STATES)
    lines = [f"{'entry':24} {'runs':>6} {widths} {'best':>7}"]
    for label in dict.fromkeys(job.label for job in plan.jobs):
        jobs = [job for job in plan.jobs if job.label == label]
        found = counts(jobs)
        cells = " ".join(f"{found[name] or '':>9}" for name in STATES)
        lines.append(f"{label:24} {len(jobs):6,d} {cells} {best(jobs):>7}")
    for selection in plan.selections:
        lines.append(f"chosen for {selection.label}: {selection.reason}")
    lines.append(summary(plan, launcher))
    width = shutil.get_terminal_size((160, 24)).columns
    return "\n".join(line if len(line) <= width else f"{line[: width - 1]}…" for line in lines)


def best(jobs) -> str:
    accuracies = []
    for job in jobs:
        with suppress(TableError):  # the rows of a run that has not ended are mended when it goes on
            accuracies += [row["test_acc"] for row in job.rows()]
    return f"{max(accuracies):.4f}" if accuracies else ""
