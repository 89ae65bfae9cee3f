"""What the suite uses of Hydra beyond its public interface, and why. requirements.txt keeps Hydra below 1.4."""

import argparse
from collections.abc import Callable

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext


def launcher_context() -> HydraContext:
    """What every launcher must be set up with.

    Hydra hands one to Sweeper plug-ins only, and only under -m, where it reads the command line as a list of jobs;
    those of sweep.py come from its plan.
    """
    return HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks())


def on_usage_error(leave: Callable[[str], None]) -> None:
    """Call `leave` with the message about a wrong option (--cfg joob) instead of printing Hydra's usage.

    @hydra.main makes its own parser and gives nobody a chance to change it.
    """
    argparse.ArgumentParser.error = lambda _, message: leave(message)  # pyright: ignore[reportAttributeAccessIssue]
