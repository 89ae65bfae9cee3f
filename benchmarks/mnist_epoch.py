"""An epoch of the 13-layer network on MNIST with one thread, in seconds and as ratios within one run.

    python -m benchmarks.mnist_epoch [--json FILE]

floor: only the epoch's matrix products (forward, weight and input gradients; not the first layer's input).
ours: the suite's loop, including metrics and gradient norms. plain: torchvision's MNIST with ToTensor and
Normalize in a DataLoader of 2 workers, loss.item() every step, PowerSGD written as the authors do
(sign(g) * |g| ** gamma). Needs the real MNIST.
"""

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torchvision import datasets, transforms

from benchmarks import timing
from data import mnist
from models.mlp import MLP
from runs import schema
from training.build import build_data
from training.trainer import Trainer

BATCH, STEPS = 128, 469
ROOT = os.environ.get("POWERSGD_DATA", Path(__file__).resolve().parent.parent / "downloads")


def our_epoch(optimizer):
    dataset = schema.Dataset(
        name="mnist", num_classes=10, image_shape=[1, 28, 28], mean=[0.0], std=[1.0], augment="none"
    )
    config = schema.Config(
        dataset=dataset, model=schema.MLP(name="mlp", depth=13, width=256, init="torch"), optimizer=optimizer,
        schedule=schema.Constant(name="constant"), epochs=1, batch_size=BATCH, seed=0, data_dir=str(ROOT),
    )  # fmt: skip
    train_set, _ = build_data(config, torch.device("cpu"))
    trainer = Trainer(config, torch.device("cpu"), images=len(train_set))

    def run():
        trainer.step = 0
        for inputs, labels in train_set.epoch(0, 0, BATCH):
            trainer.train_step(inputs, labels)
        trainer.sums.tolist()

    return run


def plain_epoch(lr: float, gamma: float | None):
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    dataset = datasets.MNIST(str(ROOT), train=True, transform=transform)
    loader = torch.utils.data.DataLoader(dataset, BATCH, shuffle=True, num_workers=2)
    model = MLP()
    sgd = torch.optim.SGD(model.parameters(), lr)

    def run():
        total = correct = 0
        for inputs, labels in loader:
            sgd.zero_grad()
            logits = model(inputs)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
            if gamma is None:
                sgd.step()
            else:
                with torch.no_grad():
                    for p in model.parameters():
                        if p.grad is not None:
                            p.add_(torch.sign(p.grad) * torch.abs(p.grad) ** gamma, alpha=-lr)
            total += loss.item() * len(labels)
            correct += (logits.argmax(1) == labels).sum().item()

    return run


def floor_epoch():
    weights = [p.detach() for p in MLP().parameters() if p.dim() > 1]
    inputs = [torch.randn(BATCH, w.size(1)) for w in weights]
    outputs = [torch.randn(BATCH, w.size(0)) for w in weights]

    def run():
        for _ in range(STEPS):
            for i, (w, x, y) in enumerate(zip(weights, inputs, outputs, strict=True)):
                torch.mm(x, w.t())
                torch.mm(y.t(), x)
                if i:
                    torch.mm(y, w)

    return run


def main() -> None:
    parser = timing.parser(__doc__)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    mnist.fetch(ROOT)
    calls = {
        "floor": floor_epoch(),
        "ours sgd": our_epoch(schema.SGD(name="sgd", lr=0.1, momentum=0.0, weight_decay=0.0)),
        "ours powersgd": our_epoch(
            schema.PowerSGD(
                name="powersgd",
                lr=0.01,
                gamma=0.4,
                momentum=0.0,
                weight_decay=0.0,
                lr_in_velocity=True,
                decay_after_power=True,
            )
        ),
        "plain sgd": plain_epoch(0.1, None),
        "plain powersgd": plain_epoch(0.01, 0.4),
    }
    seconds = {name: times["best"] for name, times in timing.seconds(calls, rounds=3).items()}
    ratios = [("ours sgd", "floor"), ("plain sgd", "ours sgd"), ("plain powersgd", "ours powersgd")]
    timing.print_table({"s an epoch": seconds}, ratios, "13-layer MLP")
    timing.write_json(arguments.json, {"seconds": seconds})


if __name__ == "__main__":
    main()
