"""`python -m figures`: names and groups, nothing half written, redrawn pictures the same to the byte."""

import shutil
import sys
from pathlib import Path

import pytest

from analysis import names, style
from analysis.records import EXPERIMENTS, NoRecords, command
from figures import __main__ as runner
from figures import recipe
from figures.recipe import Figure, all_figures

from .helpers import ROOT, typed

RESULTS = ROOT / "results"


def called(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["figures", *arguments])
    runner.main()


def test_every_experiment_has_a_figure_and_every_figure_an_experiment():
    drawn = {figure.experiment for figure in all_figures().values()} - {None}
    assert drawn == {path.stem for path in EXPERIMENTS.glob("*.yaml")}


def test_without_a_name_it_lists_them(monkeypatch, capsys):
    called(monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(all_figures())
    assert any(line.startswith("fig4_controls ") and "longer step" in line for line in lines)


@pytest.mark.parametrize(("name", "near"), [("fig44", "fig4"), ("fig1x", "fig1"), ("fig4-controls", "fig4_controls")])
def test_a_wrong_name_is_one_line_with_the_nearest_and_draws_nothing(name, near, monkeypatch, capsys, tmp_path):
    with pytest.raises(SystemExit) as left:
        called(monkeypatch, "fig2", name, "--results", str(tmp_path))
    (line,) = capsys.readouterr().err.splitlines()
    assert left.value.code == 2 and f"no figure '{name}'; did you mean {near}" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("names_", [("fig1a",), ("fig1ab",), ("fig1b",), ("fig1",)])
def test_a_panel_a_pair_and_the_whole_of_figure_1_draw_what_has_runs(names_, monkeypatch, capsys, tmp_path):
    shutil.copytree(RESULTS / "short" / "archive", tmp_path / "short" / "archive")
    called(monkeypatch, *names_, "--tier", "short", "--redraw", "--results", str(tmp_path))
    text = capsys.readouterr().out
    assert "figure1a.svg" in text and ("fig1cd not drawn" in text) == (names_ == ("fig1",))
    for name in ("figure1a.svg", "figure1b.svg", "figure1ab.md"):
        assert (tmp_path / "short" / name).read_bytes() == (RESULTS / "short" / name).read_bytes()


def test_a_group_of_which_nothing_has_run_is_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["figures", "fairness", "--results", str(tmp_path)])
    with pytest.raises(SystemExit) as left:
        command(runner.main)
    assert left.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_redraw_alone_draws_all_that_is_in_the_archives(monkeypatch, capsys, tmp_path):
    for tier in ("paper", "short"):
        shutil.copytree(RESULTS / tier / "archive", tmp_path / tier / "archive",
                        ignore=shutil.ignore_patterns("fig4-*", "fig4_*", "fig6-*"))  # fmt: skip
    called(monkeypatch, "--redraw", "--results", str(tmp_path))
    written = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.svg")}
    assert {Path("paper/figure2.svg"), Path("short/figure7.svg"), Path("short/fairness-fig1ab.svg")} <= written
    for path in written:
        for suffix in (".svg", ".png"):
            here = path.with_suffix(suffix)
            assert (tmp_path / here).read_bytes() == (RESULTS / here).read_bytes(), here
    assert style.captions(tmp_path / "paper")["figure2"]["caption"] == all_figures()["fig2"].caption


def test_figure_2_is_drawn_end_to_end_and_redraws_to_the_same_bytes(monkeypatch, capsys, tmp_path, real_mnist):
    small = ["tier=smoke", "seeds=[0]", "model.depth=3", "dataset.subset=128", "dataset.test_subset=100"]
    done = typed("sweep.py", "experiment=fig2", *small, f"results={tmp_path}", f"runs={tmp_path / 'runs'}",
                 f"data_dir={real_mnist}", "wandb.mode=disabled")  # fmt: skip
    assert done.returncode == 0, done.stderr
    called(monkeypatch, "fig2", "--tier", "custom", "--results", str(tmp_path))
    text = capsys.readouterr().out
    for name in ("figure2.svg", "figure2.png", "figure2.md"):
        assert str(tmp_path / "custom" / name) in text
    svg = (tmp_path / "custom" / "figure2.svg").read_bytes()
    assert b"With settings of one's own. 1 seed, 4 runs (changed: " in svg
    (tmp_path / "custom" / "plan-fig2.json").unlink()
    with pytest.raises(NoRecords, match="or --redraw from the archive"):
        called(monkeypatch, "fig2", "--tier", "custom", "--results", str(tmp_path))
    redrawn = []
    for _ in range(2):
        called(monkeypatch, "fig2", "--tier", "custom", "--results", str(tmp_path), "--redraw")
        redrawn.append((tmp_path / "custom" / "figure2.svg").read_bytes())
    assert redrawn[0] == redrawn[1] and b"1 seed, 4 runs" in redrawn[0]


def test_nothing_is_written_before_all_of_a_figure_is_made(tmp_path):
    def make() -> dict:
        style.plt.figure()
        raise NoRecords("half of it")

    with pytest.raises(NoRecords):
        recipe.draw(Figure("", make), tmp_path, "paper", redraw=False)
    style.plt.close("all")
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_rendered_leaves_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "x.svg").write_text("old")
    figure = style.plt.figure()
    monkeypatch.setattr(figure, "savefig", lambda file, **about: file.write(b"half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        style.save(figure, tmp_path / "x", "")
    style.plt.close(figure)
    assert (tmp_path / "x.svg").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_the_names_on_pictures_fall_back_to_what_a_thing_is_called():
    assert names.optimizer("powersgd") == "PowerSGD" and names.optimizer("adamw") == "adamw"
    assert names.optimizer("sgdm, weight_decay 0.1") == "SGDM, weight_decay 0.1"
    assert names.task("wrn26", "cifar100") == "WRN-26-10 on CIFAR-100" and names.task("mine", "toy") == "mine on toy"
