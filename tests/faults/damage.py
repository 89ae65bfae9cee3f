"""Flipped bits and cut files, of every kind of file that is read again."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from analysis import costs, records, style
from report.page import inline
from runs import archive, sums, table
from runs.files import read_json, write_json
from runs.run import Run, RunError
from runs.schema import ConfigError
from sweeps import cost
from sweeps.verify import verify
from theory import report as theory

from .disk import again, damages
from .harness import Table, child
from .scenarios import Scenario, plan_of, the_run

DAMAGE = "flipped bits and cuts: "
REFUSED = (ConfigError, RunError, records.NoRecords)


def files_of_results(results: Path, scratch: Path, table_: Table, flips: int, choose: random.Random) -> None:
    """Tables, pictures and JSON: what is read must be what was written, or one line that names a file."""
    folder = scratch / "results"
    for part in ("theory", "paper/archive"):
        shutil.copytree(results / part, folder / part)
    for path in [*(results / "paper").glob("*.*"), results / "paper" / sums.NAME]:
        shutil.copy(path, folder / "paper" / path.name)
    plan = {"experiment": "fig2", "changes": [], "runs": [{"folder": "x", "label": "y", "stage": "z", "config": {}}]}
    write_json(folder / "plan.json", plan)
    write_json(folder / "calibration.json", {"machine": cost._machine(), "networks": {"a": {"seconds_per_image": 0.1}}})

    def archived() -> object:
        return archive.read(folder / "paper" / "archive", "fig2")

    kinds: dict[str, tuple[str, Callable[[], object]]] = {
        "an archive's runs": ("paper/archive/fig2-runs.csv", archived),
        "an archive's epochs": ("paper/archive/fig2-epochs.csv", archived),
        "a list of digests": (f"paper/archive/{sums.NAME}", archived),
        "a figure's table": ("paper/figure4.csv", lambda: table.read(folder / "paper" / "figure4.csv")),
        "a theorem's table": ("theory/bounds.csv", lambda: theory.load(folder / "theory")[0]),
        "the theorems' provenance": ("theory/provenance.json", lambda: theory.load(folder / "theory")[1]),
        "a picture": ("paper/figure2.svg", lambda: inline(folder / "paper" / "figure2.svg", "", "")),
        "captions": ("paper/captions.json", lambda: style.captions(folder / "paper").get("figure2")),
        "costs": ("paper/costs.json", lambda: costs.read(folder, "paper")),
        "a calibration": ("calibration.json", lambda: cost.read_calibration(folder)),
        "a plan": ("plan.json", lambda: {key: read_json(folder / "plan.json", "", runs=list, changes=list).get(key)
                                         for key in plan}),
    }  # fmt: skip
    for name, read in kinds.values():
        path = folder / name
        whole, expected = path.read_bytes(), repr(read())
        for what, content in damages(whole, flips, flips, choose):
            path.write_bytes(content)
            became = _read(read, expected, f"{name}, {what}")
            table_.add(DAMAGE + ("JSON" if path.suffix == ".json" else "tables, pictures and their lists"), *became)
        path.write_bytes(whole)


def _read(read: Callable[[], object], expected: str, about: str) -> tuple[str, str]:
    try:
        found = repr(read())
    except REFUSED as error:
        return ("refused" if "\n" not in str(error) else "traceback"), f"{about}: {error}"
    except Exception as error:
        return "traceback", f"{about}: {error!r}"
    return ("same" if found == expected else "silent"), about


def files_of_runs(scenario: Scenario, finished: Path, stopped: Path, scratch: Path, table_: Table, flips: int,
                  choose: random.Random) -> None:  # fmt: skip
    """A damaged record of a run that has ended, or was stopped: the same command ends in the same bits, or refuses.

    And of one that has ended, the archive has the same rows or refuses.
    """
    plan = plan_of(finished / "runs")
    archive.export(plan, scratch / "archive")
    (entry,), rows = plan["runs"], archive.read(scratch / "archive", "trial")[1]
    expected = scenario.came_out(finished)
    for state, source in (("ended", finished), ("stopped", stopped)):
        names = sorted(path.name for path in the_run(source).folder.iterdir() if path.name not in ("lock", "log.txt"))
        names = [name for name in names if not name.endswith(".tmp")]  # of the killed write, which nobody reads
        for name in names:
            whole = (the_run(source).folder / name).read_bytes()
            for what, content in damages(whole, flips, flips // 3, choose):
                folder = scratch / "case"
                shutil.copytree(source, folder)
                run = the_run(folder)
                (run.folder / name).write_bytes(content)
                about = f"{name} of a run that {state}, {what}"
                if state == "ended":
                    became = _archived(run, entry, rows, folder, about)
                    table_.add(f"{DAMAGE}a run that {state}, archived", *became)
                if state == "ended" and name.startswith("checkpoint"):  # nothing goes on from it
                    lines, _ = verify(folder, folder / "runs", folder)
                    became = "refused" if any(name in line for line in lines) else "silent"
                    table_.add(f"{DAMAGE}a run that {state}", became, about)
                else:
                    table_.add(f"{DAMAGE}a run that {state}", *again(scenario, folder, expected, about))
                shutil.rmtree(folder)


def _archived(run: Run, whole: dict, rows: list[dict], folder: Path, about: str) -> tuple[str, str]:
    """whole: the plan's entry of the run; rows: the archive's, of the undamaged run."""
    plan = {"experiment": "trial", "tier": "smoke", "changes": [], "runs": [whole | {"folder": str(run.folder)}]}
    done = child(lambda: records.command(lambda: archive.export(plan, folder / "archive")))
    if done.traceback or (done.status and not done.one_line):
        return "traceback", f"{about}: {done}"
    found = [] if done.status else archive.read(folder / "archive", "trial")[1]
    return "refused" if done.status else "same" if found == rows else "silent", about
