"""Augmented CIFAR batches, in thousand images a second (best of the rounds): ours against a DataLoader.

  ours        TensorDataset.epoch with crop_flip: choose, augment, normalise; one thread, no worker
  DataLoader  RandomCrop(32, padding=4), RandomHorizontalFlip, ToTensor, Normalize of torchvision on PIL images in
              memory, shuffled, in --workers processes that stay alive between epochs

Batches of 128. Uses the real CIFAR-10 below --root if it exists, otherwise random images of the same shape. Also
checks that two runs of ours with one seed give the same bits, and one with another seed does not.
"""

import hashlib
import os
import sys
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks import timing
from data import cifar, synthetic
from data.augment import crop_flip, draw_crop_flip
from data.tensors import TensorDataset

ROOT = Path(__file__).resolve().parents[1]
BATCH = 128
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class PilImages(Dataset):
    """What torchvision.datasets.CIFAR10 does: an array in memory, from which each item is made a PIL image."""

    def __init__(self, images, labels):
        self.pixels, self.labels = images.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def training_images(root, size):
    if (root / cifar.SOURCES["cifar10"].folder).is_dir():
        images, labels = cifar.load(root, train=True, name="cifar10", verify=False)
        return images[:size], labels[:size], "CIFAR-10"
    return *synthetic.load(True, image_shape=(3, 32, 32), num_classes=10, size=size), "made-up images"


def digest(batches):
    sha = hashlib.sha256()
    for images, labels in batches:
        sha.update(images.numpy().tobytes() + labels.numpy().tobytes())
    return sha.hexdigest()


def exhaust(batches):
    for _ in batches:
        pass


def main():
    parser = timing.parser(__doc__)
    parser.add_argument("--root", type=Path, default=Path(os.environ.get("POWERSGD_DATA", ROOT / "downloads")))
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2, help="processes of the DataLoader")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)

    images, labels, source = training_images(args.root, args.images)
    augmentation = {"augment": crop_flip, "draw": draw_crop_flip}
    ours = TensorDataset(images, labels, num_classes=10, mean=MEAN, std=STD, **augmentation)
    loader = DataLoader(
        PilImages(images, labels), BATCH, shuffle=True, num_workers=args.workers, persistent_workers=args.workers > 0
    )
    kept = timing.seconds(
        {"ours": lambda: exhaust(ours.epoch(0, 1, BATCH)), "DataLoader": lambda: exhaust(loader)}, args.rounds
    )
    case = f"{len(labels):,} {source}, {args.workers} workers"
    speeds = {case: {name: len(labels) / t["best"] / 1000 for name, t in kept.items()}}
    timing.print_table(speeds, [("ours", "DataLoader")], unit="thousand images a second")

    first, second, other = (digest(ours.epoch(seed, 1, BATCH)) for seed in (0, 0, 1))
    print(f"same seed, same bits: {first == second}; other seed, other bits: {first != other}")
    timing.write_json(args.json, {case: kept}, benchmark="cifar_pipeline", batch=BATCH, identical=first == second)
    sys.exit(not (first == second != other))


if __name__ == "__main__":
    main()
