"""What a predicate's program means, in plain Python: the twin of runtime_c/core/ptap_predicate.c.

Written from the meaning of each operation: a verdict is known when it is the same for every stack that the known
frames may belong to.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field

from ptap.predicate.program import Instruction, Program
from relay_reader.predicate_layout import FILE_KERNEL, FILE_UNKNOWN, Comparison, Measure, Operation, Side, Verdict

_COMPARE = {
    Comparison.EQUAL: operator.eq,
    Comparison.NOT_EQUAL: operator.ne,
    Comparison.LESS: operator.lt,
    Comparison.LESS_OR_EQUAL: operator.le,
    Comparison.GREATER: operator.gt,
    Comparison.GREATER_OR_EQUAL: operator.ge,
}
_MORE = (0, 1, 2, 3, 5, 1 << 70)
"""So many frames may be missing, which stand for all numbers: each comparison with a small number changes by then."""


@dataclass
class Stack:
    """What a program is run on: struct ptap_predicate_input."""

    frames: list[tuple[int, int]] = field(default_factory=list)
    """(address, file)."""
    kernel_count: int = 0
    whole: int = 0
    first: int = 1
    pid: int = 0
    tid: int = 0
    comm: bytes = b""

    def whole_on(self, side: int) -> bool:
        return self.whole & side == side


def evaluate(program: Program, stack: Stack) -> Verdict:
    """The verdict of a sound program."""
    verdicts: list[set[bool]] = []  # what may be
    for each in program.instructions:
        if each.operation is Operation.NOT:
            verdicts.append({not value for value in verdicts.pop()})
        elif each.operation in (Operation.AND, Operation.OR):
            right, left = verdicts.pop(), verdicts.pop()
            both = each.operation is Operation.AND
            verdicts.append({(a and b) if both else (a or b) for a in left for b in right})
        else:
            verdicts.append(_possible(program, each, stack))
    (left,) = verdicts
    return Verdict.UNKNOWN if len(left) == 2 else Verdict(int(left.pop()))


def _possible(program: Program, term: Instruction, stack: Stack) -> set[bool]:
    """The values that a term may have."""
    if term.operation is Operation.UNDECIDABLE:
        return {True, False}
    if term.operation is Operation.COMM:
        return {stack.comm.split(b"\0")[0] == term.text.split(b"\0")[0]}
    if term.operation is Operation.COMPARE:
        return _compared(term, stack)
    if term.operation is Operation.IN_FILE:
        files = {file for _, file in stack.frames[stack.kernel_count :]}
        if term.operand in files:
            return {True}
        return {False} if stack.whole_on(Side.USER) and FILE_UNKNOWN not in files else {True, False}
    if term.operation is Operation.ELSEWHERE:
        in_kernel = {file for _, file in stack.frames[: stack.kernel_count]} if term.operand & Side.KERNEL else set()
        of_user = {file for _, file in stack.frames[stack.kernel_count :]} if term.operand & Side.USER else set()
        told = set(range(1, len(program.files) + 1))
        known = stack.whole_on(term.operand) and in_kernel <= {FILE_KERNEL} and of_user <= told
        return {False} if known else {True, False}
    file, ranges = program.sets[term.operand]
    if file == FILE_KERNEL and stack.kernel_count == 0:
        return {True, False}
    if term.operation is Operation.DIRECT_CALLER:
        return _direct(program, file, ranges, stack)
    return _above(program, term.value, file, ranges, stack)


def _compared(term: Instruction, stack: Stack) -> set[bool]:
    holds = _COMPARE[Comparison(term.comparison)]
    if term.operand in (Measure.PID, Measure.TID):
        return {holds(stack.pid if term.operand == Measure.PID else stack.tid, term.value)}
    in_kernel, of_user = stack.kernel_count, len(stack.frames) - stack.kernel_count
    least, side = {
        Measure.DEPTH: (in_kernel + of_user, Side.BOTH),
        Measure.KERNEL_DEPTH: (in_kernel, Side.KERNEL),
        Measure.USER_DEPTH: (of_user, Side.USER),
    }[Measure(term.operand)]
    if stack.whole_on(side):
        return {holds(least, term.value)}
    # That the missing frames are too many for the value counts as unknown, as their number is not bounded.
    near = {term.value + offset for offset in (-1, 0, 1, 2)}
    return {holds(number, term.value) for number in near | {least + more for more in _MORE} if number >= least}


def _in_set(ranges, file: int, frame: tuple[int, int]) -> set[bool]:
    address, of = frame
    if of == FILE_UNKNOWN:
        return {True, False}
    return {of == file and any(start <= address < end for start, end in ranges)}


def _direct(program: Program, file: int, ranges, stack: Stack) -> set[bool]:
    if program.inside:
        return {True, False}
    in_kernel = [True] * stack.kernel_count + [False] * (len(stack.frames) - stack.kernel_count)
    reachable = stack.frames if stack.whole_on(Side.KERNEL) else stack.frames[: stack.kernel_count]
    if stack.first < len(reachable):
        if in_kernel[stack.first] != (file == FILE_KERNEL):
            return {False}
        return _in_set(ranges, file, reachable[stack.first])
    needed = Side.KERNEL if file == FILE_KERNEL else Side.BOTH
    return {False} if stack.whole_on(needed) else {True, False}


def _above(program: Program, limit: int, file: int, ranges, stack: Stack) -> set[bool]:
    """Of each frame on the set's side: may it be a caller that is near enough."""
    kernel = file == FILE_KERNEL
    whole = stack.whole_on(Side.KERNEL)
    possible: list[set[bool]] = []
    for index, frame in enumerate(stack.frames):
        if (index < stack.kernel_count) != kernel:
            continue
        inside = _in_set(ranges, file, frame)
        if index < stack.first:
            possible.append({True, False} if program.inside and index == 0 and True in inside else {False})
        elif limit and index - stack.first >= limit:
            possible.append({False})  # it can only be farther out
        elif limit and not whole and not kernel:
            possible.append(inside | {False})
        else:
            possible.append(inside)
    known = stack.kernel_count if kernel else len(stack.frames)  # what is missing of a side is farther out
    if not stack.whole_on(Side.KERNEL if kernel else Side.USER) and not (limit and known - stack.first >= limit):
        possible.append({True, False})
    if {True} in possible:
        return {True}
    return {True, False} if any(True in each for each in possible) else {False}
