"""The optimizer for others: its README's examples run, sdist and wheel install and are typed."""

import importlib.util
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

import optimizers
from optimizers import PowerSGD

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = re.findall(r"## (.*?)\n\n```python\n(.*?)```", (ROOT / "optimizers/README.md").read_text(), re.DOTALL)


def run(code: str, monkeypatch) -> dict:
    monkeypatch.setitem(sys.modules, "powerball", optimizers)
    names: dict = {"__name__": "example"}
    exec(code, names)
    return names


def example(title: str) -> str:
    return dict(EXAMPLES)[title]


def test_the_readme_has_three_examples():
    assert [title for title, _ in EXAMPLES] == ["One line in a training loop", "With timm", "With Lightning"]


def test_the_loop_of_the_readme_trains(monkeypatch):
    names = run(example("One line in a training loop"), monkeypatch)
    assert isinstance(names["optimizer"], PowerSGD) and len(names["optimizer"].state) == 2


@pytest.mark.slow  # to import it takes seconds
def test_the_timm_example_steps(monkeypatch):
    pytest.importorskip("timm")
    names = run(example("With timm"), monkeypatch)
    model, optimizer = names["model"], names["optimizer"]
    before = [parameter.clone() for parameter in model.parameters()]
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    names["scheduler"].step(1)
    assert any((old != new).any() for old, new in zip(before, model.parameters(), strict=True))
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 5e-4}
    assert optimizer.param_groups[0]["lr"] < 0.01


@pytest.mark.slow
def test_the_lightning_example_trains(monkeypatch, tmp_path):
    pytest.importorskip("lightning")
    names = run(example("With Lightning"), monkeypatch)
    data = [(torch.randn(4, 8), torch.tensor([0, 1, 0, 1]))] * 3
    model = names["Classifier"]()
    before = model.layer.weight.clone()
    trainer = names["lightning"].Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu",
                                         default_root_dir=tmp_path, enable_progress_bar=False)  # fmt: skip
    trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=None))
    assert isinstance(trainer.optimizers[0], PowerSGD) and (model.layer.weight != before).any()


@pytest.mark.slow
def test_sdist_and_wheel_install_and_hold_what_they_should(tmp_path):
    if importlib.util.find_spec("build") is None:
        pytest.skip("no build (pip install build)")
    copy, out = tmp_path / "copy", tmp_path / "dist"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
    subprocess.run([sys.executable, "-m", "build", "-o", str(out), str(copy)], check=True, capture_output=True)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    files = {"powerball/__init__.py", "powerball/powersgd.py", "powerball/py.typed"}
    assert files <= set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(sdist) as archive:
        assert not [name for name in archive.getnames() if "/tests" in name or "/results" in name]
    for package in (sdist, wheel):
        target = tmp_path / package.suffix
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), str(package)]
        subprocess.run(command, check=True)
        code = "import importlib.metadata as m, powerball; d = m.metadata('powerball-optimizer');"
        code += "print(powerball.__version__ == d['Version'], d['Description'].splitlines()[0], d['Project-URL'])"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(target)},
                              capture_output=True, text=True, check=True)  # fmt: skip
        assert done.stdout.strip() == "True # powerball-optimizer Paper, https://www.ijcai.org/proceedings/2020/451"
