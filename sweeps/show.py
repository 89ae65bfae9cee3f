"""What `plan=true` and `status=true` print."""

import shutil
from collections import Counter

from .cost import Costs, workers
from .plan import Plan, counts

STATES = ("finished", "diverged", "running", "stopped", "failed", "waiting", "archived")


def summary(plan: Plan, launcher: dict) -> str:
    """The plan in a line: how many runs, how many are done, and what the rest costs at most."""
    missing = plan.missing()
    text = f"{plan.experiment}, tier {plan.label}: {len(plan.jobs)} runs, {len(plan.jobs) - len(missing)} done"
    text += f", at least {plan.to_come} more once the grid has chosen" if plan.to_come else ""
    if not missing:
        return text
    hours, source = machine_hours(plan, launcher)
    text += f"; {sum(job.config['epochs'] for job in missing)} epochs to train"
    return f"{text}, at most {duration(hours)} on this machine ({source})"


def machine_hours(plan: Plan, launcher: dict) -> tuple[float, str]:
    """Hours of this machine for what is missing of a plan and for what is to come, and where that comes from."""
    missing, costs = plan.missing(), Costs(plan.jobs, plan.results)
    found = [costs.of(job.config) for job in missing]
    seconds = sum(cost.seconds for cost in found)
    if plan.to_come and plan.jobs:
        seconds += plan.to_come * sum(costs.of(job.config).seconds for job in plan.jobs) / len(plan.jobs)
    sources = Counter(cost.source for cost in found)
    return seconds / workers(launcher) / 3600, spelled(sources)


def spelled(sources: Counter) -> str:
    words = {"measured": "measured", "calibrated": "calibrated", "arithmetic": "from multiply-adds, not measured"}
    return ", ".join(words[name] if len(sources) == 1 else f"{count} {words[name]}" for name, count in sources.items())


def duration(hours: float) -> str:
    if hours < 1 / 60:
        return "a minute"
    return f"{60 * hours:.0f} minutes" if hours < 2 else f"{hours:,.0f} hours"


def plan_table(plans: list[Plan | str], launcher: dict) -> str:
    """A line for each plan, or for the text that stands in the place of one, and the sum over distinct runs."""
    lines = [f"{'experiment':14} {'runs':>6} {'done':>6} {'to come':>8} {'hours here':>12} {'GPU hours':>10}  from"]
    total: dict[str, tuple[float, float]] = {}
    for plan in plans:
        if isinstance(plan, str):
            lines.append(plan)
            continue
        costs = Costs(plan.jobs, plan.results)
        found = {job.run.id: costs.of(job.config) for job in plan.missing()}
        mean = [sum(getattr(costs.of(job.config), name) for job in plan.jobs) / len(plan.jobs) for name in
                ("seconds", "gpu_seconds")] if plan.to_come else (0, 0)  # fmt: skip
        here = sum(cost.seconds for cost in found.values()) + plan.to_come * mean[0]
        gpu = sum(cost.gpu_seconds for cost in found.values()) + plan.to_come * mean[1]
        sources = spelled(Counter(cost.source for cost in found.values()))
        lines.append(
            f"{plan.experiment:14} {len(plan.jobs):6,d} {len(plan.jobs) - len(plan.missing()):6,d} "
            f"{plan.to_come or '':>8} {here / workers(launcher) / 3600:12,.1f} {gpu / 3600:10,.1f}  {sources}"
        )
        total |= {name: (cost.seconds, cost.gpu_seconds) for name, cost in found.items()}
        total[plan.experiment] = (plan.to_come * mean[0], plan.to_come * mean[1])
    here, gpu = (sum(pair[i] for pair in total.values()) / 3600 for i in (0, 1))
    lines.append(f"{'together':14} {'':6} {'':6} {'':8} {here / workers(launcher):12,.1f} {gpu:10,.1f}")
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
    accuracies = [row["test_acc"] for job in jobs if job.status or job.archived for row in job.rows()]
    return f"{max(accuracies):.4f}" if accuracies else ""
