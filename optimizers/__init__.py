"""PowerSGD and PowerSGDM (the paper's algorithms 1 and 2) for PyTorch."""

from .powersgd import PowerSGD, powerball

__all__ = ["PowerSGD", "powerball"]
__version__ = "0.1.0"
