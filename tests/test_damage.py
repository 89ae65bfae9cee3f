"""Damage to any file that the suite wrote is noticed and named in one line; what is intact stays readable."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from analysis import costs, records, style
from report.page import inline
from runs import archive, sums, table
from runs.files import DamagedFile, read_json, write_atomically, write_json
from runs.interrupt import Interrupted
from runs.merge import merge
from runs.run import Run, RunError
from sweeps import cost
from sweeps.verify import verify
from theory import report as theory_report
from training import checkpoint, view
from training.execute import execute

from .helpers import ROOT, assert_same, make_config, outcome, run_of
from .test_archive import plan, two  # noqa: F401, a fixture

ROWS = [{"run": "0123456789ab", "epoch": epoch, "train_loss": 1 / epoch} for epoch in (1, 2, 3)]
DAMAGE = [b"", b"\xff\xfe", b"{", b"[]", b"null", b"1", b'{"a": 1}', b"\0" * 50]


def flips(content: bytes, count: int = 30):
    for place in range(0, len(content), max(1, len(content) // count)):
        yield content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :]


def refused(read) -> str:
    with pytest.raises(DamagedFile) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Tables and pictures: SHA256SUMS


def test_every_flipped_bit_and_every_cut_of_a_table_is_noticed(tmp_path):
    path = tmp_path / "trial-epochs.csv"
    table.write(path, ROWS)
    whole = path.read_bytes()
    for content in [*flips(whole, len(whole)), *(whole[:length] for length in range(len(whole)))]:
        path.write_bytes(content)
        assert str(path) in refused(lambda: table.read(path))
    path.unlink()
    assert "is missing" in refused(lambda: table.read(path))
    path.write_bytes(whole)
    assert [row["epoch"] for row in table.read(path)] == [1, 2, 3]
    assert subprocess.run(["sha256sum", "--check", "--quiet", sums.NAME], cwd=tmp_path).returncode == 0


def test_a_damaged_list_is_noticed_and_can_be_made_anew(tmp_path):
    for name in ("a.csv", "b.csv"):
        table.write(tmp_path / name, ROWS)
    whole = (tmp_path / sums.NAME).read_bytes()
    for content in flips(whole, len(whole)):
        (tmp_path / sums.NAME).write_bytes(content)
        problems = 0
        for name in ("a.csv", "b.csv"):
            try:
                table.read(tmp_path / name)
            except DamagedFile:
                problems += 1
        assert problems, content
    sums.renew(tmp_path)
    assert (tmp_path / sums.NAME).read_bytes() == whole and not sums.damaged(tmp_path)


@pytest.mark.parametrize("first", [None, b"old"])
def test_a_table_fits_its_list_wherever_writing_it_is_killed(tmp_path, monkeypatch, first):
    """Also the second time that it is killed, with other content."""

    class Killed(BaseException):
        pass

    def write(folder, content, at):
        calls = iter(range(100))

        def dying(*arguments):
            if next(calls) >= at:
                raise Killed
            return replace(*arguments)

        with pytest.MonkeyPatch.context() as patches:
            patches.setattr(os, "replace", dying)
            try:
                sums.write(folder / "a.csv", content)
            except Killed:
                return True

    replace = os.replace
    for one in range(4):
        for other in range(4):
            folder = tmp_path / f"{first}-{one}-{other}"
            if first:
                sums.write(folder / "a.csv", first)
            assert write(folder, b"one", one) == (True if one < 3 else None)
            write(folder, b"other", other)
            assert not sums.damaged(folder)
            sums.write(folder / "a.csv", b"last")
            assert sums.read(folder / "a.csv") == b"last" and len((folder / sums.NAME).read_text().splitlines()) == 1


def test_an_archive_that_is_cut_or_changed_is_refused_with_its_name(two, tmp_path):  # noqa: F811
    folder = tmp_path / "smoke" / "archive"
    archive.export(plan(*two), folder)
    path = folder / "trial-epochs.csv"
    path.write_bytes(path.read_bytes()[:-40])
    for read in (lambda: archive.rows_by_run(tmp_path / "smoke"), lambda: records.load(folder, "trial"),
                 lambda: archive.export(plan(*two), folder)):  # fmt: skip
        assert str(path) in refused(read)


def test_a_run_without_all_its_rows_counts_as_missing(two, tmp_path):  # noqa: F811
    """Also where no digest says so."""
    folder = tmp_path / "smoke" / "archive"
    archive.export(plan(*two), folder)
    (folder / sums.NAME).unlink()
    path = folder / "trial-epochs.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    assert archive.rows_by_run(tmp_path / "smoke") == {}
    assert {run["state"] for run in archive.read(folder, "trial")[0]} == {archive.MISSING}
    archive.export(plan(*two), folder)  # the run is still here
    assert path.read_text() == "".join(lines)


@pytest.mark.parametrize("folder", sorted({path.parent for path in (ROOT / "results").glob("**/*.csv")
                                           if path.relative_to(ROOT / "results").parts[0] not in ("runs", "reruns")}),
                         ids=lambda folder: str(folder.relative_to(ROOT)))  # fmt: skip
def test_the_tables_and_pictures_in_git_are_those_that_were_written(folder):
    assert (folder / sums.NAME).exists() and sums.damaged(folder) == {}


def test_a_damaged_picture_does_not_enter_the_report(tmp_path):
    figure, _ = style.plt.subplots()
    style.save(figure, tmp_path / "figure", "caption")
    path = tmp_path / "figure.svg"
    whole = path.read_bytes()
    assert "caption" in inline(path, "x", "caption")
    for content in [*flips(whole), *DAMAGE]:
        path.write_bytes(content)
        assert str(path) in refused(lambda: inline(path, "x", "caption"))
    (tmp_path / sums.NAME).unlink()
    for content in [*DAMAGE, whole[: len(whole) // 2]]:
        path.write_bytes(content)
        assert str(path) in refused(lambda: inline(path, "x", "caption"))


# JSON: a digest within


def test_every_flipped_bit_and_every_cut_of_json_is_noticed(tmp_path):
    path, content = tmp_path / "a.json", {"runs": [{"label": "x", "share": 0.1}], "say": "é"}
    write_json(path, content)
    whole = path.read_bytes()
    assert read_json(path, "", runs=list) == content
    for changed in [*flips(whole, len(whole)), *(whole[:length] for length in range(len(whole) - 1))]:
        path.write_bytes(changed)
        try:
            assert read_json(path, "", runs=list) == content
        except DamagedFile as error:  # else the flip was in a space
            assert str(path) in str(error) and "\n" not in str(error)


READERS = {
    "plan-fig2.json": lambda results: records.refresh(results, "paper", "fig2"),
    "costs.json": lambda results: costs.read(results, "paper"),
    "captions.json": lambda results: style.captions(results / "paper"),
    "../calibration.json": cost.read_calibration,
    "../theory/provenance.json": lambda results: theory_report.load(results / "theory"),
}


@pytest.mark.parametrize("name", READERS)
def test_no_reader_of_json_is_surprised(tmp_path, name):
    for table_name in ("bounds", "remarks", "steps"):
        table.write(tmp_path / "theory" / f"{table_name}.csv", ROWS)
    (tmp_path / "paper").mkdir()
    for content in DAMAGE:
        if name == "captions.json" and content == DAMAGE[6]:
            continue  # that is one
        write_atomically(tmp_path / "paper" / name, content)
        assert Path(name).name in refused(lambda: READERS[name](tmp_path))


def test_what_only_tags_depend_on_stops_no_run(two, tmp_path):  # noqa: F811
    results = tmp_path / "results"
    archive.export(plan(*two), results / "smoke" / "archive")
    (results / "smoke" / "plan-trial.json").write_text(json.dumps(plan(*two)))
    run = view.Run(plan(*two)["runs"][0]["folder"]).id
    assert view.uses(run, results) == {"trial": "grid"}
    for path in results.glob("smoke/**/*trial*"):
        path.write_bytes(path.read_bytes()[:-20])
    assert view.uses(run, results) == {}


def test_the_modes_of_files_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "new" / "file", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "file").stat().st_mode & 0o777 == 0o640


# Runs


def finished(tmp_path) -> Run:
    return execute(make_config(tmp_path))


def test_rows_that_a_checkpoint_has_are_restored_and_the_rest_is_named(tmp_path, fake_mnist):
    run = finished(tmp_path)
    path = run.folder / "metrics.csv"
    whole, rows = path.read_bytes(), run.rows()
    for content in [*flips(whole, 5), b"", whole[:-5]]:
        path.write_bytes(content)
        lines, sound = verified(tmp_path)
        assert sound and path.read_bytes() == whole and f"repaired: {path}, from the checkpoint" in lines
    assert verified(tmp_path)[0][0] == "runs: 1 intact, 0 repaired, 0 damaged"
    for name in ("status.json", "config.yaml", "checkpoint.pt"):
        kept = (run.folder / name).read_bytes()
        for content in [*flips(kept, 5), *DAMAGE]:
            (run.folder / name).write_bytes(content)
            lines, sound = verified(tmp_path)
            (damaged,) = [line for line in lines if line.startswith("damaged")]
            assert not sound and str(run.folder) in damaged, (name, content)
        (run.folder / name).write_bytes(kept)
    assert verified(tmp_path)[1] and run.rows() == rows


def test_an_interrupted_run_with_a_bad_character_in_its_rows_is_resumed(tmp_path, fake_mnist):
    expected = outcome(execute(make_config(tmp_path / "whole", data_dir=str(fake_mnist))))
    config = make_config(tmp_path)
    with pytest.raises(Interrupted):
        execute(config, lambda row: signal.raise_signal(signal.SIGTERM))
    run = run_of(config)
    path = run.folder / "metrics.csv"
    path.write_bytes(path.read_bytes().replace(b"0.", b"\xff.", 1))
    assert run.status()["epoch"] == 1  # what train.py's progress bar begins with
    assert_same(outcome(execute(config)), expected)


def test_a_damaged_status_of_an_interrupted_run_does_not_decide_how_it_goes_on(tmp_path, fake_mnist):
    config = make_config(tmp_path)
    with pytest.raises(Interrupted):
        execute(config, lambda row: signal.raise_signal(signal.SIGTERM))
    path = run_of(config).folder / "status.json"
    data = json.loads(path.read_text())["data"]
    path.write_text(path.read_text().replace(data, data[::-1]))
    assert run_of(config).damaged() == ["status.json"]
    run = execute(config)
    assert run.ended() and run.status()["data"] == data
    assert "status.json damaged; restored from the checkpoint" in (run.folder / "log.txt").read_text()


def test_a_figure_of_a_damaged_run_is_refused_and_names_it(two, tmp_path):  # noqa: F811
    path = Path(plan(*two)["runs"][0]["folder"]) / "metrics.csv"
    path.write_bytes(path.read_bytes().replace(b"0.", b"1.", 1))
    with pytest.raises(RunError, match=rf"^{path} is damaged; .*verify=true[^\n]*$"):
        archive.export(plan(*two), tmp_path / "archive")


def test_a_checkpoint_of_another_run_is_refused(tmp_path, fake_mnist):
    other, config = finished(tmp_path), make_config(tmp_path, seed=1)
    run_of(config).folder.mkdir()
    (run_of(config).folder / "checkpoint.pt").write_bytes((other.folder / "checkpoint.pt").read_bytes())
    with pytest.raises(RunError, match=r"checkpoint\.pt is the checkpoint of another run; move it away"):
        execute(config)


@pytest.mark.parametrize("problem", ["unreadable", "of another shape", "no state"])
def test_a_newest_checkpoint_that_cannot_be_used_falls_back(tmp_path, fake_mnist, problem, monkeypatch):
    expected = outcome(execute(make_config(tmp_path / "whole", data_dir=str(fake_mnist))))
    config = make_config(tmp_path)
    with pytest.raises(Interrupted):
        execute(config, lambda row: signal.raise_signal(signal.SIGTERM))
    run = run_of(config)
    good = checkpoint.load(run)
    checkpoint.save(run, good)
    if problem == "unreadable":
        read = Path.read_bytes

        def failing(path):
            if path.name == "checkpoint.pt":
                raise OSError(5, "Input/output error")
            return read(path)

        monkeypatch.setattr(Path, "read_bytes", failing)
    elif problem == "of another shape":
        checkpoint.save(run, good | {"model": {name: value[:1] for name, value in good["model"].items()}})
    else:
        checkpoint.save(run, {})
    run = execute(config)
    monkeypatch.undo()
    assert "trying the previous one" in (run.folder / "log.txt").read_text()
    assert_same(outcome(run), expected)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_is_removed_under_a_run_is_noticed_and_not_written_into(tmp_path, fake_mnist, replaced):
    config = make_config(tmp_path)

    def remove(row):
        run_of(config).folder.rename(tmp_path / "elsewhere")
        if replaced:
            with run_of(config).locked():
                pass

    with pytest.raises(RunError, match="was removed or replaced during training"):
        execute(config, remove)
    assert [path.name for path in run_of(config).folder.glob("*")] == ["lock"] * replaced


def test_a_merge_goes_on_after_a_bad_folder_and_copies_only_runs(tmp_path, fake_mnist):
    source, here = tmp_path / "results" / "runs", tmp_path / "here"
    bad, linked, good = (execute(make_config(tmp_path, seed=seed)) for seed in (0, 1, 2))
    (bad.folder / "metrics.csv").write_bytes((bad.folder / "metrics.csv").read_bytes().replace(b"0.", b"1.", 1))
    (linked.folder / "log.txt").unlink(missing_ok=True)
    (linked.folder / "log.txt").symlink_to("/etc/hostname")
    (good.folder / "wandb").mkdir()
    good.log("trained")
    (good.folder / "wandb" / "secret").symlink_to("/etc/hostname")
    (good.folder / "other").write_text("no record")
    for content in DAMAGE:
        broken = source / f"broken{DAMAGE.index(content)}-0123456789ab"
        broken.mkdir()
        (broken / "config.yaml").write_bytes(content)
        (broken / "status.json").write_bytes(content)
    (here / ".merge-left").mkdir(parents=True)
    lines, fit = merge(source, here)
    found = dict(line.split(": ", 1) for line in lines)
    assert not fit and len(lines) == 3 + len(DAMAGE)
    assert found[bad.name] == "left out, its metrics.csv is damaged"
    assert found[linked.name] == "left out, its log.txt is a symbolic link"
    assert found[good.name] == "copied" and [path.name for path in here.iterdir()] == [good.name]
    copied = {str(path.relative_to(here / good.name)) for path in (here / good.name).rglob("*")}
    assert copied == {"lock", "config.yaml", "metrics.csv", "status.json", "log.txt", "checkpoint.pt",
                      "checkpoint.previous.pt", "wandb"}  # fmt: skip
    assert merge(good.folder, here) == ([f"{good.name}: already here"], True)


def verified(tmp_path):
    return verify(tmp_path / "results", tmp_path / "results" / "runs", tmp_path / "mnist")


def test_verify_names_every_damaged_file(two, tmp_path):  # noqa: F811
    results, data = tmp_path / "results", tmp_path / "mnist" / "MNIST" / "raw"
    archive.export(plan(*two), results / "smoke" / "archive")
    write_json(results / "smoke" / "plan-trial.json", plan(*two))
    figure, _ = style.plt.subplots()
    style.save(figure, results / "smoke" / "figure", "caption")
    assert verified(tmp_path) == (["runs: 1 intact, 0 repaired, 0 damaged",
                                   "tables and pictures: 4 intact, 0 repaired, 0 damaged",
                                   "archived runs: 2 intact, 0 repaired, 0 damaged",
                                   "plans and other JSON: 2 intact, 0 repaired, 0 damaged",
                                   "data files: 4 intact, 0 repaired, 0 damaged"], True)  # fmt: skip
    files = [*results.glob("smoke/**/*.*"), *data.iterdir()]
    assert len(files) == 10
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
        lines, sound = verified(tmp_path)
        assert not sound and any(line.startswith("damaged") and path.name in line for line in lines), path
        path.write_bytes(whole)
    assert verified(tmp_path)[1]
