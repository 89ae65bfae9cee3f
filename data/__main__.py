"""`python -m data [names] [--root downloads]`: download and verify data sets."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from . import cifar, mnist
from .errors import DataError

FETCH = {
    "mnist": mnist.fetch,
    "cifar10": partial(cifar.fetch, name="cifar10"),
    "cifar100": partial(cifar.fetch, name="cifar100"),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m data", description="Fetch and verify data sets.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(FETCH)}; default: all")
    default = os.environ.get("POWERSGD_DATA", Path(__file__).resolve().parent.parent / "downloads")
    parser.add_argument("--root", type=Path, default=default, help="the data folder (%(default)s)")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in FETCH]
    if unknown:
        sys.exit(f"error: no data set {unknown[0]}; there are {', '.join(FETCH)}")
    failed = False
    for name in arguments.names or FETCH:
        try:
            print(f"{name}: verified in {FETCH[name](arguments.root)}")
        except DataError as error:
            print(f"error: {error}", file=sys.stderr)
            failed = True
    sys.exit(2 if failed else 0)


if __name__ == "__main__":
    main()
