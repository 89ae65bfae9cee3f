"""A checkpoint of ResNet-50 with momentum: its copy, which training waits for, and its write by a thread.

    python -m benchmarks.checkpoint_write [--json FILE]

Prints megabytes and seconds, the best of a few rounds.
"""

import tempfile
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from benchmarks import timing
from runs import cli
from runs.run import Run
from training import checkpoint
from training.trainer import Trainer

ROUNDS = 5


def main() -> None:
    arguments = timing.parser(__doc__).parse_args()
    torch.set_num_threads(1)
    found = measure("dataset=cifar10", "model=resnet50", "optimizer=sgdm")
    for name, value in found.items():
        print(f"{name:24} {value:.3f}")
    timing.write_json(arguments.json, found)


def measure(*overrides: str) -> dict[str, float]:
    """Seconds of the copy that training waits for, and of the whole write; the best of the rounds."""
    cli.register()
    with initialize_config_dir(str(cli.ROOT / "configs"), version_base="1.3"):
        config = cli.typed(compose("train", list(overrides)))
    trainer = Trainer(config, torch.device("cpu"), images=1000)
    trainer.train_step(torch.randn(4, *config.dataset.image_shape), torch.arange(4))
    copies, writes = [], []
    with tempfile.TemporaryDirectory() as folder:
        run = Run(folder)
        for _ in range(ROUNDS):
            started = time.perf_counter()
            state = checkpoint.snapshot(trainer.state_dict())
            copies.append(time.perf_counter() - started)
            checkpoint.save(run, state)
            writes.append(time.perf_counter() - started - copies[-1])
        size = Path(folder, checkpoint.NEWEST).stat().st_size
    return {"megabytes": size / 1e6, "copy_seconds": min(copies), "write_seconds": min(writes)}


if __name__ == "__main__":
    main()
