"""Stacks of real programs between two instructions, as the walk's arrays, from single-stepped runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from core_library import Stack
from shadow_stack import stack_check
from shadow_stack.recorded_run import RecordedRun
from shadow_stack.shadow_check import SteppedWalk, int64s

from unwind.walk import NO_PREVIOUS_CFA, REGISTER_COUNT, STATE_EXACT, STATE_KNOWN, STATE_PREVIOUS_CFA, STATE_WIDTH


def sampled_stacks(stepper: Path, command: Sequence[str], every: int) -> Iterator[Stack]:
    """The stack at every `every`-th state of the program, from its entry point on.

    A stack's memory is that of the run, and holds until the next stack is asked for.
    """
    with RecordedRun(stepper, command, "-e") as run:
        walk = SteppedWalk(run)
        for block in run.blocks():
            results = np.zeros(block.count * stack_check.RESULT_WIDTH, dtype=np.int64)
            tables = walk.tables()
            arena, mappings = walk.arena, int64s(tables.values)
            steps = block.steps.reshape(-1, stack_check.STEP_WIDTH)
            for first in range(0, block.count, every):
                # Walking brings the memory up to the step.
                last = min(first + every, block.count)
                walk.check(block, first, last, results)
                row = steps[last - 1]
                state = np.zeros(STATE_WIDTH, dtype=np.int64)
                state[:REGISTER_COUNT] = row[:REGISTER_COUNT]
                state[STATE_KNOWN] = (1 << REGISTER_COUNT) - 1
                state[STATE_EXACT] = 1
                state[STATE_PREVIOUS_CFA] = NO_PREVIOUS_CFA
                slices = walk.slices.copy()
                skipped = row[stack_check.STEP_LOW] - slices[0]
                slices[:3] += [skipped, skipped, -skipped]
                yield Stack(arena, mappings, walk.content, slices, state)
