"""gpu-check without a GPU: its checks on a CPU that stands for one, and each of them made to fail."""

import ast
import json
import subprocess
import sys

import pytest
import torch

from benchmarks import gpu_check
from runs import schema
from runs.files import read_json
from sweeps.cost import read_check
from training import build

from .helpers import ROOT

CPU = torch.device("cpu")


@pytest.fixture
def small(monkeypatch):
    """A tiny network in each numerics that a CPU has, compiled without compiling anything."""
    compiled = torch.compile
    shape = [1, 28, 28]
    tiny = schema.MLP(name="mlp", depth=3, width=16, init="torch")
    for name, value in {
        "BATCH": 64, "ODD": 40, "STEPS": 1, "MLP_STEPS": 1, "WARMUP": 1, "PIPELINE_IMAGES": 64,
        "MODELS": gpu_check.MODELS | {"mlp": (tiny, shape, 10)},
        "SMALL": schema.ResNet(name="resnet50", blocks=[1, 1, 1, 1], width=4, init="torch"),
    }.items():  # fmt: skip
        monkeypatch.setattr(gpu_check, name, value)
    monkeypatch.setattr(
        build.torch, "compile", lambda net, mode=None, **options: compiled(net, backend="eager", **options)
    )


def test_the_checks_pass_where_a_cpu_stands_for_the_gpu(small, tmp_path):
    found = [check for check in gpu_check.checks(CPU, tmp_path) if "tf32" not in check.name]
    found = [check for check in found if check.model in (None, "mlp") and check.name != "optimizer_step"]
    report = gpu_check.run(found, {"gpu": "a CPU"}, tmp_path / "check.json", 1000)
    assert report["failures"] == [] and report["skipped"] == []
    assert report["graphs_of_an_odd_batch"] == 2 and report["short_training"]["learned"]
    assert read_json(tmp_path / "check.json", "") == report
    rows = report["models"]["mlp"]
    assert {"strict", "fast", "plain_strict", "plain_fast"} <= set(rows) and rows["fast"]["images_per_second"] > 0


def test_any_check_may_fail_and_the_others_go_on_with_the_file_written_each_time(tmp_path):
    path, seen = tmp_path / "check.json", []

    def raising():
        raise RuntimeError  # without a message

    def looking():
        seen.append(json.loads(path.read_text()))
        return False

    checks = list(gpu_check.checks(CPU, tmp_path))
    checks = [check._replace(call=raising if number % 2 else looking) for number, check in enumerate(checks)]
    path.write_text("{}")
    report = gpu_check.run(checks, {}, path, 1000)
    raised = [f"{check.model} {check.name}" if check.model else check.name for check in checks[1::2]]
    assert set(raised) <= set(report["failures"]) and len(seen) == len(checks[::2])
    assert [len(one.get("failures", ())) for one in seen] == sorted(len(one.get("failures", ())) for one in seen)
    assert report["resume_exact_fp32"] == {"error": "RuntimeError: no message"}
    assert "optimizer_difference" not in report["failures"] or report["optimizer_difference"] is False


@pytest.mark.parametrize(
    ("name", "result"),
    [("optimizer_difference", 1e-3), ("optimizer_difference", float("nan")), ("resume_exact_bf16", False),
     ("short_training", {"learned": False}), ("graphs_of_an_odd_batch", 3), ("input_pipeline", {"finite": False}),
     ("strict", {"finite": False})],
)  # fmt: skip
def test_a_check_that_finds_what_is_wrong_fails(name, result, tmp_path):
    check = next(one for one in gpu_check.checks(CPU, tmp_path) if one.name == name)
    report = gpu_check.run([check._replace(call=lambda: result)], {}, tmp_path / "check.json", 1000)
    assert len(report["failures"]) == 1


def test_what_time_does_not_allow_is_named(tmp_path):
    report = gpu_check.run(gpu_check.checks(CPU, tmp_path), {}, tmp_path / "check.json", -1)
    assert "optimizer_difference" in report["skipped"] and "mlp fast" in report["skipped"] and not report["failures"]


def test_what_it_measured_prices_plans(small, tmp_path):
    row = gpu_check.ours("mlp", CPU)
    gpu_check.write_json(tmp_path / "gpu_check.json", {"gpu": "a CPU", "models": {"mlp": {"strict": row}}})
    ((device, _),) = read_check(tmp_path)
    assert device == "a CPU" and read_check(tmp_path)[device, row["step"]]["images_per_second"] > 0


@pytest.mark.slow
def test_two_devices_hold_the_same_weights():
    assert gpu_check.two_devices_agree("gloo")


def test_without_a_gpu_the_gpu_check_says_so(monkeypatch, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    for arguments, status in (([], 0), (["--gpus", "8"], 2)):
        monkeypatch.setattr(sys, "argv", ["gpu_check", *arguments])
        with pytest.raises(SystemExit) as left:
            gpu_check.main()
        assert left.value.code == status and "no CUDA GPU" in capsys.readouterr().out


def test_the_gpu_check_needs_neither_hydra_nor_wandb():
    code = "import sys; import benchmarks.gpu_check; "
    code += "print([m for m in ('hydra', 'omegaconf', 'wandb', 'tqdm', 'matplotlib', 'yaml') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    # torch itself may import yaml or tqdm where they are installed.
    assert set(ast.literal_eval(done.stdout)) <= {"yaml", "tqdm"}, done.stderr
