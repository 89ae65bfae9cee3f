"""The data sets of the paper's Table 2: fetched, verified and held ready for training."""

# Images for training and for testing, known without opening the data.
SIZES = {
    "mnist": (60_000, 10_000),
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "imagenet": (1_281_167, 50_000),
    "synthetic": (1_000, 1_000),
}
