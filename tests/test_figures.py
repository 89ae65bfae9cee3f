"""Tables on hand-made records, and figure 2 end to end."""

import subprocess
import sys
from pathlib import Path

import pytest

from analysis.records import NoRecords, by_seed, collect, read_table
from runs import table

ROOT = Path(__file__).resolve().parent.parent


def records():
    rows = []
    for optimizer, lr, gamma, acc in [
        ("sgd", 0.1, None, 0.11),
        ("powersgd", 0.01, 0.4, 0.989),
    ]:
        for seed in range(3):
            for epoch in range(1, 4):
                rows.append({
                    "optimizer": optimizer, "lr": lr, "gamma": gamma, "seed": seed, "epoch": epoch,
                    "train_acc": acc + 0.001 * seed, "test_acc": acc, "train_loss": 1.0, "test_loss": 1.0,
                    "grad_norm1": 0.01, "powered_norm1": None if gamma is None else 1.0,
                    "dead_units_1": 3, "run": "x",
                })  # fmt: skip
    return rows


def test_by_seed_orders_by_epoch():
    rows = [{"seed": 1, "epoch": 2, "x": 20}, {"seed": 1, "epoch": 1, "x": 10}, {"seed": 0, "epoch": 1, "x": 5}]
    assert by_seed(rows, "x") == {0: [5], 1: [10, 20]}


def test_tables_survive_a_round_trip(tmp_path):
    rows = records()
    table.write(tmp_path / "t.csv", rows)
    for before, after in zip(rows, read_table(tmp_path / "t.csv"), strict=True):
        assert after == {k: pytest.approx(v, rel=1e-5) if isinstance(v, float) else v for k, v in before.items()}
    with pytest.raises(NoRecords, match="missing"):
        read_table(tmp_path / "absent.csv")


def test_without_a_plan_the_message_says_what_to_run(tmp_path):
    with pytest.raises(NoRecords, match=r"sweep\.py experiment=fig2 tier=paper"):
        collect(tmp_path, "paper", "fig2")


def test_figure_2_is_drawn_end_to_end_and_redraws_to_the_same_bytes(tmp_path, real_mnist):
    def run(*command):
        return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=300)

    done = run("sweep.py", "experiment=fig2", "tier=smoke", f"results={tmp_path}", f"data_dir={real_mnist}")
    assert done.returncode == 0, done.stderr
    drawn = run("-m", "figures.fig2", "--tier", "smoke", "--results", str(tmp_path))
    assert drawn.returncode == 0, drawn.stderr
    for name in ("figure2.svg", "figure2.png", "archive/fig2-epochs.csv", "figure2.md"):
        assert str(tmp_path / "smoke" / name) in drawn.stdout
    wanted = {"run", "lr", "epoch", "train_acc", "test_acc", "train_loss", "test_loss", "grad_norm1", "powered_norm1"}
    assert wanted <= set(read_table(tmp_path / "smoke" / "archive" / "fig2-epochs.csv")[0])
    svg = (tmp_path / "smoke" / "figure2.svg").read_bytes()
    assert b"tier smoke" in svg
    assert run("-m", "figures.fig2", "--tier", "smoke", "--results", str(tmp_path), "--redraw").returncode == 0
    assert (tmp_path / "smoke" / "figure2.svg").read_bytes() == svg


def test_a_figure_without_runs_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "figures.fig2", "--results", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
