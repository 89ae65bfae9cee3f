"""Uses of Hydra beyond its public interface, and why. requirements.txt keeps Hydra below 1.4."""

import argparse
from collections.abc import Callable


def on_usage_error(leave: Callable[[str], None]) -> None:
    """For a wrong option (--cfg joob), call `leave` with the message instead of printing Hydra's usage.

    @hydra.main makes its own parser, which cannot be changed from outside.
    """
    argparse.ArgumentParser.error = lambda _, message: leave(message)  # pyright: ignore[reportAttributeAccessIssue]
