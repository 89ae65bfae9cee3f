"""What the repository promises about its own structure."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {  # what each room may import of ours; an arrow only ever points down
    "optimizers": set(),
    "models": set(),
    "data": set(),
    "runs": set(),
    "training": {"optimizers", "models", "data", "runs"},
    "analysis": {"optimizers", "runs"},
    "sweeps": {"training", "data", "models", "analysis", "runs"},
    "theory": {"optimizers", "models", "data", "analysis", "runs"},
    "figures": {"optimizers", "models", "analysis", "runs"},
    "report": {"analysis", "runs"},
    "dashboards": {"report", "figures", "analysis", "training", "runs"},
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module


@pytest.mark.parametrize("package", FLOORS)
def test_imports_only_point_down(package):
    for path in (ROOT / package).rglob("*.py"):
        for name in imports(path):
            room = name.split(".")[0]
            assert room not in set(FLOORS) - {package} - FLOORS[package], f"{path} imports {name}"


def test_the_lower_floors_need_neither_hydra_nor_wandb():
    code = "import sys, optimizers, models.mlp, data.mnist, training.execute, training.loop\n"
    code += "print([m for m in ('hydra', 'omegaconf', 'wandb') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.slow
def test_pip_install_gives_powerball_and_nothing_else(tmp_path):
    target = tmp_path / "site"
    copy = tmp_path / "copy"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), str(copy)], check=True
    )
    assert sorted(path.name for path in target.iterdir() if not path.name.endswith(".dist-info")) == ["powerball"]
    code = "from powerball import PowerSGD; import torch; p = torch.nn.Parameter(torch.ones(2)); p.grad = p * 4; "
    code += "PowerSGD([p], lr=0.5, gamma=0.5).step(); print(p.tolist())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(target)},
                          capture_output=True, text=True)  # fmt: skip
    assert done.stdout.strip() == "[0.0, 0.0]", done.stderr
