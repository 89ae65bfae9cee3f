"""A training step of each CIFAR network at a small tier's size, with one thread, in milliseconds and as ratios.

    python -m benchmarks.cnn_step [--tier laptop|short] [--compile] [--json FILE]

plain: NCHW, torchvision's transforms in a DataLoader (in this process), loss.item() every step. The others are the
suite's step on a data set held as tensors: with default settings (float32, channels_last), NCHW, bf16, and with
--compile torch.compile, which takes minutes. Images are random, since the time does not depend on their content.
"""

from typing import Any

import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from benchmarks import timing
from benchmarks.laptop_value import NETWORKS
from data import synthetic
from data.augment import crop_flip, draw_crop_flip
from data.tensors import TensorDataset
from runs import cli, schema
from training.build import build_model
from training.trainer import Trainer

BATCH, IMAGES, STEPS = 128, 1280, 4
WAYS = {"ours": {}, "nchw": {"channels_last": False}, "bf16": {"precision": "bf16"}}


def model_of(network: str, tier: str) -> Any:
    """The settings of a network at a tier."""
    with initialize_config_dir(str(cli.ROOT / "configs"), version_base="1.3"):
        config = compose("train", [f"experiment={NETWORKS[network]}", f"tier={tier}", "optimizer=sgdm"])
    return cli.typed(config).model


def config_of(model, **changes) -> schema.Config:
    dataset = schema.Dataset(
        name="synthetic", num_classes=10, image_shape=[3, 32, 32], mean=[0.5] * 3, std=[0.25] * 3, augment="crop_flip"
    )
    sgdm = schema.SGD(name="sgdm", lr=0.1, momentum=0.9, weight_decay=5e-4)
    return schema.Config(
        dataset=dataset,
        model=model,
        optimizer=sgdm,
        schedule=schema.Constant(name="constant"),
        epochs=1,
        batch_size=BATCH,
        seed=0,
        **changes,
    )


def our_steps(model, data, **changes):
    images, labels = data
    dataset = TensorDataset(
        images, labels, num_classes=10, mean=[0.5] * 3, std=[0.25] * 3, augment=crop_flip, draw=draw_crop_flip
    )
    trainer = Trainer(config_of(model, **changes), torch.device("cpu"), IMAGES)

    def run():
        trainer.step = 0
        for inputs, labels in dataset.epoch(0, 0, BATCH):
            trainer.train_step(inputs, labels)
            if trainer.step == STEPS:
                break
        trainer.sums.tolist()

    return run


def plain_steps(model, data):
    images, labels = data
    steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    transform = transforms.Compose([*steps, transforms.Normalize([0.5] * 3, [0.25] * 3)])
    pictures = [to_pil_image(image) for image in images]

    class Pictures(torch.utils.data.Dataset):
        def __len__(self):
            return len(pictures)

        def __getitem__(self, index):
            return transform(pictures[index]), labels[index]

    loader = torch.utils.data.DataLoader(Pictures(), BATCH, shuffle=True)
    network = build_model(config_of(model))
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)

    def run():
        for step, (x, y) in enumerate(loader, start=1):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(x), y)
            loss.backward()
            optimizer.step()
            loss.item()
            if step == STEPS:
                break

    return run


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--tier", default="laptop", choices=("laptop", "short"))
    parser.add_argument("--compile", action="store_true", help="time torch.compile too")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cli.register()
    data = synthetic.load(True, image_shape=[3, 32, 32], num_classes=10, size=IMAGES)
    ways = WAYS | ({"compiled": {"compile": "default"}} if arguments.compile else {})
    cases = {}
    for name in NETWORKS:
        model = model_of(name, arguments.tier)
        calls = {"plain": plain_steps(model, data)}
        calls |= {way: our_steps(model, data, **changes) for way, changes in ways.items()}
        times = timing.seconds(calls, rounds=arguments.rounds)
        cases[name] = {way: 1000 * t["best"] / STEPS for way, t in times.items()}
    timing.print_table(cases, [("plain", way) for way in ways], "ms a step")
    timing.write_json(arguments.json, cases)


if __name__ == "__main__":
    main()
