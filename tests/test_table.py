"""The one table: declared types, one dialect of CSV, the files in git reproduced byte for byte."""

import math
import re
import subprocess
import sys

import pytest

from runs import table
from runs.run import Run

from .helpers import ROOT

RESULTS = ROOT / "results"
FILES = sorted(path for place in ("*.csv", "*/*.csv", "*/archive/*.csv") for path in RESULTS.glob(place))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parts[-2]}-{path.stem}")
def test_a_table_in_git_is_written_as_it_was_read(path, tmp_path):
    table.write(tmp_path / "copy.csv", table.read(path))
    assert (tmp_path / "copy.csv").read_bytes() == path.read_bytes()


def test_cells_have_their_columns_type_whatever_they_look_like(tmp_path):
    row = {"remark": "3.2", "label": "1", "seed": 3, "gamma": 1, "holds": False, "dead_units_12": 7,
           "train_loss": 1234567.0, "environment": {"b": [1, None], "a": "x"}, "depth": None}  # fmt: skip
    table.write(tmp_path / "t.csv", [row])
    (back,) = table.read(tmp_path / "t.csv")
    assert back == row | {"train_loss": 1.23457e6}
    assert {name: type(value) for name, value in back.items()} == {
        "remark": str, "label": str, "seed": int, "gamma": float, "holds": bool, "dead_units_12": int,
        "train_loss": float, "environment": dict, "depth": type(None),
    }  # fmt: skip
    assert (tmp_path / "t.csv").read_text().splitlines()[1].startswith("3.2,1,3,1,False,7,1.23457e+06,")


def test_missing_is_not_nan_and_a_later_row_may_bring_a_column(tmp_path):
    table.write(tmp_path / "t.csv", [{"gamma": None, "train_loss": math.nan}, {"gamma": 0.5, "beta": math.inf}])
    first, second = table.read(tmp_path / "t.csv")
    assert first["gamma"] is None and math.isnan(first["train_loss"]) and first["beta"] is None
    assert second == {"gamma": 0.5, "train_loss": None, "beta": math.inf}


@pytest.mark.parametrize("name", ["accuracy", "dead_units", "dead_units_x", "seed_1"])
def test_a_column_that_is_not_declared_is_refused(name, tmp_path):
    with pytest.raises(table.TableError, match=f"'{name}' is not declared"):
        table.write(tmp_path / "t.csv", [{name: 1}])
    assert not (tmp_path / "t.csv").exists()


def test_a_cell_of_another_type_is_named_by_its_line(tmp_path):
    (tmp_path / "t.csv").write_text("seed,gamma\n1,0.5\nzero,0.5\n")
    with pytest.raises(table.TableError, match=re.escape(f"{tmp_path}/t.csv, line 3: invalid literal")):
        table.read(tmp_path / "t.csv")


def test_a_runs_metrics_have_the_same_types(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,train_loss,dead_units_1,powered_norm1\n1,0.1,12,\n2,nan,3,")
    (row,) = Run(tmp_path).rows()
    assert repr(row) == "{'epoch': 1, 'train_loss': 0.1, 'dead_units_1': 12, 'powered_norm1': None}"


def test_reading_needs_no_pandas():
    code = "import sys; from runs import archive, merge; print('pandas' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False False", done.stderr
