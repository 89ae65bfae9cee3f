"""gpu-evidence, tried on the CPU: packed, killed in the middle, resumed elsewhere, merged."""

import json
import os
import signal
import subprocess
import sys

import pytest

from benchmarks import gpu_evidence
from runs import cli
from runs.identity import identity
from runs.merge import merge
from runs.run import Run
from training.execute import execute

from .helpers import ROOT, TIMES, clean_environment, composed
from .test_launch import wait_for

TINY = ["dataset=synthetic", "dataset.subset=640", "model.depth=2", "model.width=8", "batch_size=32"]
RUNS = (
    ("alone", [*TINY, "optimizer=sgd", "epochs=150"]),
    ("beside", [*TINY, "epochs=2", "+grid.paper.sgd.lr=[0.1,0.01]", "seeds=[1,2]"]),
)


def timeless(run):
    return [{key: value for key, value in row.items() if key not in TIMES} for row in run.rows()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_evidence_is_packed_killed_continued_elsewhere_and_merged(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_evidence, "RUNS", RUNS)
    gpu_evidence.pack(tmp_path / "evidence.zip", tmp_path)
    out = tmp_path / "out"

    def start(*arguments):
        command = [sys.executable, "-m", "benchmarks.gpu_evidence", "--data", str(tmp_path / "evidence.zip")]
        return subprocess.Popen(
            [*command, "--out", str(out), "--device", "cpu", *arguments], cwd=ROOT, env=clean_environment(tmp_path),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    scratch = out.with_name("out.scratch")
    first = start("--minutes", "5")
    wait_for(lambda: any(Run(folder).status().get("epoch", 0) >= 2 for folder in (scratch / "runs").glob("*/")), 200)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    second = start("--minutes", "5")
    text, _ = second.communicate(timeout=400)
    assert second.returncode == 0 and "5 runs have ended" in text, text
    assert sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) < gpu_evidence.LIMIT_BYTES
    assert not list(out.rglob("checkpoint*"))
    lines, fit = merge(out, tmp_path / "home" / "runs")
    assert fit and len(lines) == 5, lines
    home = [Run(folder) for folder in (tmp_path / "home" / "runs").glob("*/")]
    assert all(run.ended() for run in home)
    settings = [*RUNS[0][1], "wandb.mode=disabled", "progress=false", "device=cpu", f"results={tmp_path / 'whole'}"]
    whole = execute(cli.typed(composed(*settings)))
    assert timeless(whole) == timeless(Run(tmp_path / "home" / "runs" / whole.name))


def test_the_state_that_travels_is_bounded_and_never_says_more_than_it_can_go_on_from(tmp_path, monkeypatch):
    scratch, out = tmp_path / "scratch", tmp_path / "out"
    monkeypatch.setattr(gpu_evidence, "LIMIT_BYTES", 5000)
    for name, size in (("small", 1000), ("large", 100_000)):
        folder = scratch / "runs" / name
        folder.mkdir(parents=True)
        (folder / "status.json").write_text(json.dumps({"state": "running", "epoch": 1}))
        (folder / "checkpoint.pt").write_bytes(bytes(size))
        (folder / "checkpoint.previous.pt").write_bytes(bytes(size))
    gpu_evidence.bring_out(out, scratch)
    assert [path.name for path in (out / "runs").iterdir()] == ["small"]
    assert {path.name for path in (out / "runs" / "small").iterdir()} == {"status.json", "checkpoint.pt"}


def test_what_would_be_packed_is_the_paper_s_protocol(tmp_path):
    gpu_evidence.pack(tmp_path / "evidence.zip", tmp_path)
    groups = gpu_evidence.unpack(tmp_path / "evidence.zip", tmp_path)
    best, rival, figure4, strict = groups
    assert [len(group["runs"]) for group in groups] == [1, 1, 352, 1] and figure4["beside"] > 1
    for group in (best, rival, strict):
        (config,) = group["runs"]
        assert (config["tier"], config["epochs"], config["batch_size"]) == ("paper", 160, 128)
    assert (best["runs"][0]["precision"], strict["runs"][0]["precision"]) == ("bf16", "fp32")
    lines = [f"{key}={figure4['runs'][-1]['optimizer'][key]}" for key in ("lr", "gamma")]
    last = composed("experiment=fig4", "seed=4", "model.depth=15", *(f"optimizer.{line}" for line in lines))
    assert identity(figure4["runs"][-1]) == identity(cli.plain(last))
    assert best["runs"][0]["optimizer"] == strict["runs"][0]["optimizer"]
