"""Three steps of a small network, shared by the processes that torchrun started, or by this one alone."""

import sys
from pathlib import Path

import torch
from torch import nn

from runs import schema
from training import trainer as module
from training.distributed import World


class Small(nn.Module):
    def __init__(self, norm: bool):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.head = nn.Linear(4, 10)

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


def config(sync: bool = False) -> schema.Config:
    dataset = schema.Dataset(name="synthetic", num_classes=10, image_shape=[3, 8, 8], mean=[0.5] * 3, std=[0.25] * 3,
                             augment="none")  # fmt: skip
    return schema.Config(
        dataset=dataset, model=schema.MLP(name="mlp", depth=2, width=4, init="torch"),
        optimizer=schema.SGD(name="sgd", lr=0.1, momentum=0.9, weight_decay=0.0),
        schedule=schema.Constant(name="constant"), epochs=1, batch_size=10, seed=0, sync_batchnorm=sync
    )  # fmt: skip


def steps(norm: bool, sync: bool = False) -> dict:
    """The first gradient, the weights after the last step, and the sums over all processes."""
    module.build_model, built = lambda config: Small(norm), module.build_model
    world, device = World.from_environment(), torch.device("cpu")
    try:
        trainer = module.Trainer(config(sync), device, images=25, world=world)
        generator = torch.Generator().manual_seed(1)
        for size in (10, 10, 5):  # the last batch does not divide by two
            x, y = torch.randn(size, 3, 8, 8, generator=generator), torch.randint(10, (size,), generator=generator)
            share = slice(size * world.rank // world.size, size * (world.rank + 1) // world.size)
            trainer.train_step(x[share], y[share])
            if size == 10 and trainer.step == 1:
                first = [p.grad.clone() for p in trainer.model.parameters()]
        return {"first": first, "weights": trainer.model.state_dict(), "sums": world.sum(trainer.sums)}
    finally:
        module.build_model = built


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with World.from_environment().connected(torch.device("cpu")):  # once: a second time may wait forever
        found = {norm: steps(norm) for norm in (False, True)}
        try:
            steps(norm=True, sync=True)
        except schema.ConfigError as error:
            found["refused"] = str(error)
    if World.from_environment().main:
        torch.save(found, folder / "two.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
