"""`python -m report`."""

from analysis.records import command

from .page import main

command(main)
