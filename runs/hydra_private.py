"""What the suite uses of Hydra beyond its public interface, and why. requirements.txt keeps Hydra below 1.4."""

import argparse
from collections.abc import Callable


def on_usage_error(leave: Callable[[str], None]) -> None:
    """Call `leave` with the message about a wrong option (--cfg joob) instead of printing Hydra's usage.

    @hydra.main makes its own parser and gives nobody a chance to change it.
    """
    argparse.ArgumentParser.error = lambda _, message: leave(message)  # pyright: ignore[reportAttributeAccessIssue]
