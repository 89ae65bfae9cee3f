"""Every paper-tier experiment, checked without a GPU: `python -m sweeps.paper_check` or `make paper-check`.

Composes each grid entry, builds its full-size network and runs a whole training step on device="meta", where a tensor
on the wrong device or a hidden read-back raises. Then each network takes one real step with a batch of 2. Prints
parameters, multiply-adds an image, and the memory that activations take at the paper's batch size.
"""

import gc
import sys
import time
from dataclasses import asdict

import torch
from hydra import compose, initialize_config_dir

from models.size import size
from runs import cli
from runs.schema import ConfigError
from training.trainer import Trainer

from .plan import grid_entries

ONE_WAY = ["wandb.mode=disabled", "precision=fp32", "compile=none"]  # nothing is compiled for device="meta"
HEADER = f"{'experiment':14} {'entry':22} {'model':18} {'parameters':>12} {'multiply-adds':>14} {'activations':>12}"


def main() -> None:
    cli.register()
    torch.set_num_threads(2)
    experiments = sorted(path.stem for path in (cli.ROOT / "configs" / "experiment").glob("*.yaml"))
    print(HEADER)
    stepped, started = set(), time.monotonic()
    with initialize_config_dir(str(cli.ROOT / "configs"), version_base="1.3"):
        for experiment in experiments:
            try:
                base = cli.plain(compose("train", [f"experiment={experiment}"]))
            except ConfigError as error:  # the experiment has no paper tier
                print(f"{experiment:14} left out: {error}")
                continue
            for label, groups, axes, _ in grid_entries(base):
                overrides = [f"{group}={option}" for group, option in groups.items()]
                overrides += [f"{path}={values[-1]}" for path, values in axes.items()]
                config = cli.typed(compose("train", [f"experiment={experiment}", *overrides, *ONE_WAY]))
                dataset = config.dataset
                parameters, products = size(asdict(config.model), dataset.image_shape, dataset.num_classes)
                activations = meta_step(config)
                print(
                    f"{experiment:14} {label:22} {config.model.name:18} {parameters:12,d} {products / 1e9:12.3f} G "
                    f"{activations / 2**30:8.2f} GiB",
                    flush=True,
                )
                if config.model.name not in stepped:
                    stepped.add(config.model.name)
                    real_step(config)
    peak = _peak_gib()
    print(f"{len(experiments)} experiments composed and stepped on meta, {len(stepped)} networks on the CPU with a "
          f"batch of 2; {time.monotonic() - started:.0f} s, at most {peak:.1f} GiB; no GPU was used")  # fmt: skip


def meta_step(config) -> int:
    """Take a whole step on device="meta"; returns the bytes of the batch's activations."""
    device = torch.device("meta")
    trainer = Trainer(config, device, images=10 * config.batch_size)
    shape = config.dataset.image_shape
    inputs = torch.empty(config.batch_size, *shape, device=device)
    labels = torch.empty(config.batch_size, dtype=torch.int64, device=device)
    weights = {p.untyped_storage()._cdata for p in trainer.model.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            saved[storage._cdata] = storage  # kept alive, so that no later storage reuses its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        trainer.train_step(inputs, labels)
    for p in trainer.model.parameters():
        if p.grad is None or p.grad.device.type != "meta":
            sys.exit(f"error: {config.model.name} has a parameter without a gradient on the device")
    return sum(storage.nbytes() for storage in saved.values())


def real_step(config) -> None:
    """One update with a batch of 2 on the CPU; every weight must stay finite."""
    trainer = Trainer(config, torch.device("cpu"), images=config.batch_size)
    trainer.train_step(torch.randn(2, *config.dataset.image_shape), torch.tensor([0, 1]))
    if not all(p.isfinite().all() for p in trainer.model.parameters()):
        sys.exit(f"error: a step of {config.model.name} on the CPU gave a weight that is not finite")
    del trainer
    gc.collect()


def _peak_gib() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
