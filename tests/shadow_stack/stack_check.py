"""The walk at every recorded step against the true call stack, as a hot loop.

Compared at each step, for every frame from the innermost to the outermost: the pc of the caller, the CFA, and the
caller's rbx, rbp, rsp and r12-r15 (after a signal frame all sixteen registers); and that the walk ends with the
outermost frame, not before and not after it. Arrays are those of `recorded_run` and of `unwind.walk`.
"""

from __future__ import annotations

from cfi_tables.hot_loop import FlatArray, hot_loop
from cfi_tables.layout import STOP_REASON_END_OF_STACK
from unwind.walk import (
    CALLEE_SAVED,
    FRAME_CFA,
    FRAME_EXACT,
    FRAME_FLAGS,
    FRAME_KNOWN,
    FRAME_PC,
    FRAME_WIDTH,
    NO_PREVIOUS_CFA,
    REGISTER_COUNT,
    RETURN_ADDRESS,
    STACK_POINTER,
    STATE_CARRIED,
    STATE_EXACT,
    STATE_FRAMES,
    STATE_KNOWN,
    STATE_ON_DEMAND,
    STATE_PREVIOUS_CFA,
    walk,
)

# Columns of a step, a node, and a delta; see record_stream.h.
STEP_NODE = REGISTER_COUNT
STEP_LOW = REGISTER_COUNT + 1
STEP_DELTA_END = REGISTER_COUNT + 2
STEP_FLAGS = REGISTER_COUNT + 3
STEP_WIDTH = REGISTER_COUNT + 4
NODE_PARENT = 0
NODE_KIND = 1
NODE_PC = 2
NODE_CFA = 3
NODE_REGISTERS = 4
NODE_WIDTH = NODE_REGISTERS + REGISTER_COUNT
NODE_INTERRUPTED = 1
NODE_REWRITTEN = 2

# What a step came to.
EXACT = 0
WRONG_CALLER = 1
WRONG_CFA = 2
WRONG_REGISTER = 3
UNKNOWN_REGISTER = 4
ENDS_EARLY = 5
ENDS_LATE = 6
NO_END = 7
"""Every frame is right, but the walk does not know that the last one is the outermost."""

# Columns of a result.
RESULT_CODE = 0
RESULT_FRAME = 1
"""The frame whose rule gave the wrong answer."""
RESULT_PC = 2
"""That frame's pc."""
RESULT_EXACT = 3
"""1: the pc was interrupted; 0: it is a return address."""
RESULT_REASON = 4
"""Why the walk ended."""
RESULT_DEPTH = 5
"""Frames that the true stack has."""
RESULT_REWRITTEN = 6
"""1: the program has replaced a return address of this stack, and has not gone there yet."""
RESULT_WIDTH = 7

ALL_BUT_PC = (1 << RETURN_ADDRESS) - 1


@hot_loop
def _caller_mismatch(nodes: FlatArray, node: int, frames: FlatArray, frame_registers: FlatArray, frame: int) -> int:
    """How the walk's frame `frame`, and the CFA of the one before it, differ from what `node` says; or EXACT."""
    at = frame * FRAME_WIDTH
    if frames[at + FRAME_PC] != nodes[node * NODE_WIDTH + NODE_PC]:
        return WRONG_CALLER
    if frames[at - FRAME_WIDTH + FRAME_CFA] != nodes[node * NODE_WIDTH + NODE_CFA]:
        return WRONG_CFA
    wanted = CALLEE_SAVED
    if nodes[node * NODE_WIDTH + NODE_KIND] == NODE_INTERRUPTED:
        wanted = ALL_BUT_PC
    for register in range(RETURN_ADDRESS):
        if register == STACK_POINTER:
            if frame_registers[frame * REGISTER_COUNT + register] != nodes[node * NODE_WIDTH + NODE_CFA]:
                return WRONG_REGISTER
        elif (wanted >> register) & 1:
            if (frames[at + FRAME_KNOWN] >> register) & 1 == 0:
                return UNKNOWN_REGISTER
            truth = nodes[node * NODE_WIDTH + NODE_REGISTERS + register]
            if frame_registers[frame * REGISTER_COUNT + register] != truth:
                return WRONG_REGISTER
    return EXACT


@hot_loop
def _compare(
    nodes: FlatArray,
    top: int,
    frames: FlatArray,
    frame_registers: FlatArray,
    count: int,
    reason: int,
    result: FlatArray,
    place: int,
) -> int:
    """Compare a walk of `count` frames with the stack whose innermost call is `top`; the code, put into `result`."""
    node = top
    frame = 0
    code = EXACT
    while code == EXACT and node >= 0:
        if frame + 1 >= count:
            code = ENDS_EARLY
        else:
            code = _caller_mismatch(nodes, node, frames, frame_registers, frame + 1)
        if code == EXACT:
            frame += 1
            node = nodes[node * NODE_WIDTH + NODE_PARENT]
    if code == EXACT:
        if frame + 1 < count:
            code = ENDS_LATE
        elif reason != STOP_REASON_END_OF_STACK:
            code = NO_END
    depth = 1
    rewritten = 0
    node = top
    while node >= 0:
        depth += 1
        if nodes[node * NODE_WIDTH + NODE_KIND] == NODE_REWRITTEN:
            rewritten = 1
        node = nodes[node * NODE_WIDTH + NODE_PARENT]
    result[place + RESULT_CODE] = code
    result[place + RESULT_FRAME] = frame
    result[place + RESULT_PC] = frames[frame * FRAME_WIDTH + FRAME_PC]
    result[place + RESULT_EXACT] = frames[frame * FRAME_WIDTH + FRAME_FLAGS] & FRAME_EXACT
    result[place + RESULT_REASON] = reason
    result[place + RESULT_DEPTH] = depth
    result[place + RESULT_REWRITTEN] = rewritten
    return code


@hot_loop
def check_steps(
    arena: FlatArray,
    mappings: FlatArray,
    mapping_count: int,
    words: FlatArray,
    content: FlatArray,
    slices: FlatArray,
    slice_count: int,
    steps: FlatArray,
    first_step: int,
    last_step: int,
    deltas: FlatArray,
    nodes: FlatArray,
    state: FlatArray,
    frames: FlatArray,
    max_depth: int,
    frame_registers: FlatArray,
    scratch: FlatArray,
    results: FlatArray,
) -> int:
    """Bring the memory up to each step in turn, walk, compare; the number of steps that are not exact.

    `words` (int64) and `content` (bytes) are one memory, the image; its first slice is the main stack, of which a
    walk sees what lies at and above the step's lowest address in use, as a capture has it.
    """
    delta = 0 if first_step == 0 else steps[(first_step - 1) * STEP_WIDTH + STEP_DELTA_END] + 0
    stack_begin = slices[0] + 0
    stack_size = slices[2] + 0
    inexact = 0
    for step in range(first_step, last_step):
        at = step * STEP_WIDTH
        while delta < steps[at + STEP_DELTA_END]:
            words[deltas[2 * delta]] = deltas[2 * delta + 1]
            delta += 1
        skipped = steps[at + STEP_LOW] - stack_begin
        slices[0] = stack_begin + skipped
        slices[1] = skipped
        slices[2] = stack_size - skipped
        for register in range(REGISTER_COUNT):
            state[register] = steps[at + register]
        state[STATE_KNOWN] = (1 << REGISTER_COUNT) - 1
        state[STATE_EXACT] = 1
        state[STATE_PREVIOUS_CFA] = NO_PREVIOUS_CFA
        state[STATE_ON_DEMAND] = 0
        state[STATE_FRAMES] = 0
        state[STATE_CARRIED] = 0
        reason, count = walk(
            arena, mappings, 0, mapping_count, content, slices, 0, slice_count, state, frames, 0, max_depth,
            frame_registers, scratch,
        )  # fmt: skip
        top = steps[at + STEP_NODE] + 0
        if _compare(nodes, top, frames, frame_registers, count, reason, results, step * RESULT_WIDTH) != EXACT:
            inexact += 1
    slices[0] = stack_begin
    slices[1] = 0
    slices[2] = stack_size
    return inexact
