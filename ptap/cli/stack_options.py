"""The options that tell which stacks of those that are there are shown, and how much of them."""

from __future__ import annotations

import click

max_depth_option = click.option(
    "--max-depth",
    type=click.IntRange(min=1),
    metavar="N",
    default=100_000,
    show_default=True,
    help="Show at most N frames of a stack (calls inlined in them do not count).",
)
when_option = click.option(
    "--when", metavar="PREDICATE", help="Show only stacks of which this holds (see `ptap trace --help`)."
)
