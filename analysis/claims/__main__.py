"""`python -m analysis.claims`."""

from analysis.records import command

from .judge import main

command(main)
