"""What a sweep costs in addition to the training of its runs.

    python -m benchmarks.sweep_overhead [--json FILE]

1. A sweep in this process over small runs: wall time less their training time, a run. Part of it is each run's own
   (reading the data, evaluating, saving); the same runs by train.py one at a time are the peer.
2. plan=true and status=true with 10,000 finished runs in the results folder.
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import timing
from runs.run import Run

ROOT = Path(__file__).resolve().parent.parent
RUNS = 24
SEEDS, LRS = 100, [round(0.01 * k, 2) for k in range(1, 101)]
MANY = SEEDS * len(LRS)
SMALL = ["dataset=synthetic", "model=mlp", "model.depth=2", "epochs=1", "wandb.mode=disabled", "progress=false"]


def timed(program: str, *arguments: str) -> tuple[float, str]:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, str(ROOT / program), *arguments], capture_output=True, text=True, check=True)
    return time.perf_counter() - started, done.stdout


def main() -> None:
    arguments = timing.parser(__doc__).parse_args()
    found = measure()
    for name, value in found.items():
        print(f"{name:32} {value:.3f} s")
    timing.write_json(arguments.json, found)


def measure() -> dict[str, float]:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        seeds = f"seeds=[{','.join(map(str, range(RUNS)))}]"
        grid = "+grid.paper.sgd.lr=[0.1]"
        arguments = [*SMALL, grid, f"results={folder}"]
        empty, _ = timed("sweep.py", *arguments, "seeds=[0]", "plan=true")
        wall, _ = timed("sweep.py", *arguments, seeds)
        training = sum(Run(path).status()["seconds"] for path in Path(folder, "runs").iterdir())
        found["sweep_overhead_a_run"] = (wall - empty - training) / RUNS
        alone, _ = timed("train.py", *SMALL, "optimizer=sgd", "optimizer.lr=0.1", f"results={folder}/alone")
        found["train_py_overhead_a_run"] = alone - training / RUNS
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*SMALL, f"results={folder}"]
        timed("sweep.py", *arguments, grid)
        (first,) = Path(folder, "runs").iterdir()
        finish_all(arguments, Run(first))
        many = [f"seeds=[{','.join(map(str, range(SEEDS)))}]", f"+grid.paper.sgd.lr={LRS}"]
        for name in ("plan", "status"):
            found[f"{name}_with_{MANY}_runs"], output = timed("sweep.py", *arguments, *many, f"{name}=true")
            assert re.search(rf"{MANY:,d} +({MANY}|{MANY:,d})", output), output
    return found


def finish_all(arguments: list[str], first: Run) -> None:
    """Make the folders of MANY ended runs: copies of one run's records under the plan's names."""
    code = f"""
import hydra
from pathlib import Path
from runs import cli
cli.register()
@hydra.main(config_path={str(ROOT / "configs")!r}, config_name="train", version_base="1.3")
def main(config):
    from runs.run import Run
    base = cli.plain(config)
    contents = {{name: Path({str(first.folder)!r}, name).read_bytes() for name in ("metrics.csv", "status.json")}}
    for seed in range({SEEDS}):
        for lr in {LRS}:
            folder = Run.of(base | {{"seed": seed, "optimizer": base["optimizer"] | {{"lr": lr}}}}).folder
            folder.mkdir(exist_ok=True)
            for name, content in contents.items():
                (folder / name).write_bytes(content)
main()
"""
    subprocess.run([sys.executable, "-c", code, *arguments, "optimizer=sgd", "optimizer.lr=0.1"], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
