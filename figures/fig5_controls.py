"""Figure 5 for SGD with longer steps along the gradient: is it the power, or only a larger step?

python -m figures.fig5_controls [--tier laptop] [--results results] [--redraw]
"""

from analysis.records import command

from .fig5 import main

if __name__ == "__main__":
    command(lambda: main("fig5_controls", __doc__))
