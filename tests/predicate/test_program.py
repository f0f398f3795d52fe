"""Programs on stacks: the C that runs at the probe, with sanitizers, and its twin in Python say the same."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from program_twin import Stack, evaluate

from ptap.predicate.program import Instruction, Program
from relay_reader.predicate_layout import (
    FILE_KERNEL,
    FILE_OTHER,
    FILE_UNKNOWN,
    PREDICATE_DEPTH,
    PREDICATE_INSTRUCTIONS,
    PREDICATE_PROGRAM_SIZE,
    Comparison,
    Measure,
    Operation,
    Side,
    Verdict,
)

_SETTINGS = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
_FILES = [b"\x11" * 20, b"\x22" * 8]
_addresses = st.integers(0, 40)
_names = st.sampled_from([b"", b"a", b"ab", b"abcdefghijklmno"])


@st.composite
def _ranges(draw):
    edges = sorted(draw(st.sets(_addresses, max_size=8)))
    return list(zip(edges[::2], edges[1::2], strict=False))


@st.composite
def _terms(draw, sets: int) -> Instruction:
    operation = draw(st.sampled_from([each for each in Operation if each not in (7, 8, 9)]))
    if operation in (Operation.CALLER, Operation.DIRECT_CALLER):
        return Instruction(operation, draw(st.integers(0, sets - 1)), draw(st.integers(0, 4)))
    if operation is Operation.IN_FILE:
        return Instruction(operation, draw(st.integers(1, len(_FILES))))
    if operation is Operation.ELSEWHERE:
        return Instruction(operation, draw(st.sampled_from(Side)))
    if operation is Operation.COMPARE:
        measure, comparison = draw(st.sampled_from(Measure)), draw(st.sampled_from(Comparison))
        return Instruction(operation, measure, draw(st.integers(0, 8)), comparison)
    return Instruction(operation, text=draw(_names))


@st.composite
def _programs(draw) -> Program:
    sets = draw(st.lists(st.tuples(st.integers(0, len(_FILES)), _ranges()), min_size=1, max_size=4))
    instructions: list[Instruction] = []
    depth = 0
    for _ in range(draw(st.integers(1, 12))):
        if depth >= 2 and draw(st.booleans()):
            instructions.append(Instruction(draw(st.sampled_from([Operation.AND, Operation.OR]))))
            depth -= 1
        elif depth and draw(st.integers(0, 3)) == 0:
            instructions.append(Instruction(Operation.NOT))
        else:
            instructions.append(draw(_terms(len(sets))))
            depth += 1
    instructions += [Instruction(Operation.OR)] * (depth - 1)
    return Program((0, 0), draw(st.booleans()), _FILES, instructions, sets)


@st.composite
def _stacks(draw) -> Stack:
    in_kernel = draw(st.lists(st.tuples(_addresses, st.sampled_from([FILE_KERNEL, FILE_UNKNOWN])), max_size=5))
    files = st.sampled_from([1, 2, FILE_OTHER, FILE_UNKNOWN])
    of_user = draw(st.lists(st.tuples(_addresses, files), max_size=5))
    return Stack(
        frames=in_kernel + of_user,
        kernel_count=len(in_kernel),
        whole=draw(st.integers(0, 3)),
        first=draw(st.integers(0, 1)),
        pid=draw(st.integers(0, 8)),
        tid=draw(st.integers(0, 8)),
        comm=draw(_names),
    )


@_SETTINGS
@given(program=_programs(), stack=_stacks())
def test_c_and_python_agree(c_evaluator, program, stack):
    assert c_evaluator.run(program.encoded(), stack) == (0, evaluate(program, stack))


@_SETTINGS
@given(program=_programs(), stack=_stacks(), data=st.data())
def test_more_knowledge_never_turns_a_verdict_around(c_evaluator, program, stack, data):
    """A known verdict on a stack of which frames are missing is that on the whole stack."""
    code = program.encoded()
    whole = replace(stack, whole=int(Side.BOTH))
    _, full = c_evaluator.run(code, whole)
    in_kernel = data.draw(st.integers(0, stack.kernel_count))
    of_user = data.draw(st.integers(0, len(stack.frames) - stack.kernel_count))
    kept = stack.frames[:in_kernel] + stack.frames[stack.kernel_count : stack.kernel_count + of_user]
    known = Side.KERNEL * (in_kernel == stack.kernel_count)
    known += Side.USER * (stack.kernel_count + of_user == len(stack.frames))
    _, part = c_evaluator.run(code, replace(stack, frames=kept, kernel_count=in_kernel, whole=known))
    assert part in (full, Verdict.UNKNOWN)


@_SETTINGS
@given(program=_programs(), stack=_stacks(), data=st.data())
def test_damaged_programs_are_refused_or_harmless(c_evaluator, program, stack, data):
    code = bytearray(program.encoded())
    for _ in range(data.draw(st.integers(1, 4))):
        code[data.draw(st.integers(0, len(code) - 1))] = data.draw(st.sampled_from([0, 1, 2, 3, 0x7F, 0x80, 0xFF]))
    size = data.draw(st.sampled_from([len(code), len(code), len(code) - 8, 16, 0]))
    fault, verdict = c_evaluator.run(bytes(code[:size]), stack)
    assert 0 <= fault <= 5 and (verdict is None) == (fault != 0)


@_SETTINGS
@given(content=st.binary(max_size=400), stack=_stacks())
def test_garbage_is_refused_or_harmless(c_evaluator, content, stack):
    fault, verdict = c_evaluator.run(content, stack)
    assert (verdict is None) == (fault != 0)


def _fault(c_evaluator, program: Program) -> int:
    return c_evaluator.run(program.encoded(), Stack())[0]


def test_what_the_check_refuses(c_evaluator):
    """Each fault by the least damage; the numbers are enum ptap_predicate_fault."""
    size, operation, depth, of_set, of_range = range(1, 6)
    true = Instruction(Operation.COMPARE, Measure.PID, 0, Comparison.EQUAL)
    assert _fault(c_evaluator, Program(instructions=[true])) == 0
    code = Program(instructions=[true]).encoded()
    assert c_evaluator.run(code[:-1], Stack())[0] == size
    assert c_evaluator.run(code + bytes(8), Stack())[0] == size
    assert c_evaluator.run(code[: PREDICATE_PROGRAM_SIZE - 1], Stack())[0] == size
    ands = [Instruction(Operation.AND)]
    long = [true] + [true, *ands] * (PREDICATE_INSTRUCTIONS // 2)
    assert _fault(c_evaluator, Program(instructions=long)) == size
    assert _fault(c_evaluator, Program(instructions=long[:-2])) == 0
    for wrong in (
        Instruction(0), Instruction(11), Instruction(Operation.CALLER, 0), Instruction(Operation.IN_FILE, 0),
        Instruction(Operation.IN_FILE, 1), Instruction(Operation.ELSEWHERE, 0), Instruction(Operation.ELSEWHERE, 4),
        Instruction(Operation.COMPARE, 0, 0, 1), Instruction(Operation.COMPARE, 6, 0, 1),
        Instruction(Operation.COMPARE, 1, 0, 0), Instruction(Operation.COMPARE, 1, 0, 7),
    ):  # fmt: skip
        assert _fault(c_evaluator, Program(instructions=[wrong])) == operation, wrong
    for unbalanced in ([], ands, [true, *ands], [true, true], [Instruction(Operation.NOT), true]):
        assert _fault(c_evaluator, Program(instructions=unbalanced)) == depth, unbalanced
    assert _fault(c_evaluator, Program(instructions=[true] * PREDICATE_DEPTH + ands * (PREDICATE_DEPTH - 1))) == 0
    too_deep = [true] * (PREDICATE_DEPTH + 1)
    assert _fault(c_evaluator, Program(instructions=too_deep)) == depth
    assert _fault(c_evaluator, Program(instructions=[true], sets=[(1, [(1, 2)])])) == of_set
    for wrong_ranges in ([(2, 2)], [(3, 2)], [(1, 4), (4, 5)], [(5, 6), (1, 2)]):
        assert _fault(c_evaluator, Program(instructions=[true], sets=[(0, wrong_ranges)])) == of_range, wrong_ranges
