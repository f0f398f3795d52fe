"""--when on live programs: of the three calls of one function, those that are wanted, counted."""

from __future__ import annotations

import re

import pytest

_PROBE = 'process("{}").function("called_from_nest")'
# first_owner calls it once, second_owner twice, each through calls that are inlined.
_CASES = [
    ('caller("first_owner")', 1),
    ('caller("outer_inline")', 2),
    ('caller("middle_inline") and caller("second_owner", 1)', 2),
    ('direct_caller("innermost_inline")', 3),
    ('caller("main", 2) and comm() == "inline_nest"', 3),
    ('user_caller("inline_nest", "second_owner") or user_caller("libc.so.6", "first_owner")', 2),
    ('called_from("libc.so.6") and called_from("inline_nest")', 3),
    ('called_from("libm.so.6") or pid() == 1', 0),
]


@pytest.mark.parametrize("backend", ["ptrace"])
@pytest.mark.parametrize(("predicate", "count"), _CASES)
def test_what_is_wanted_is_shown(ptap, programs, predicate, count, backend):
    program = programs.build("inline_nest")
    run = ptap.trace(_PROBE.format(program), [program], "--when", predicate, backend=backend)
    assert len(run.traces) == count and run.status == 0
    assert f"3 hits, {count} trace" in run.stderr and f"{3 - count} not wanted, 0 undecided" in run.stderr


def test_each_back_end_decides_it(ptap, programs, backend):
    program = programs.build("inline_nest")
    run = ptap.trace(_PROBE.format(program), [program], "--when", 'caller("second_owner")', backend=backend)
    owners = [frame["function"] for trace in run.traces for frame in trace["frames"] if "owner" in frame["function"]]
    assert owners == ["second_owner"] * 2


@pytest.mark.parametrize("backend", ["ptrace"])
def test_a_line_a_hit_is_decided_by_the_whole_stack(ptap, programs, backend):
    """Without --backtrace the stack is walked for the predicate, and its innermost frame shown."""
    program = programs.build("inline_nest")
    run = ptap.trace(_PROBE.format(program), [program], "--when", 'caller("main")', backtrace=False, backend=backend)
    assert [[frame["function"] for frame in trace["frames"]] for trace in run.traces] == [["called_from_nest"]] * 3


@pytest.mark.parametrize("backend", ["ptrace"])
def test_the_count_is_of_what_is_wanted(ptap, programs, backend):
    program = programs.build("inline_nest")
    run = ptap.trace(
        _PROBE.format(program), [program], "--when", 'caller("second_owner")', "--count", "1", backend=backend
    )
    assert [re.search("first|second", name)[0] for name in run.functions() if "owner" in name] == ["second"]
    assert "2 hits, 1 trace, 1 not wanted" in run.stderr


@pytest.mark.parametrize("backend", ["ptrace"])
def test_a_return_has_its_caller_in_front(ptap, programs, backend):
    program = programs.build("inline_nest")
    probe = _PROBE.format(program) + ".return"
    shown = [trace["frames"][0]["function"] for trace in ptap.trace(probe, [program], backend=backend).traces]
    predicate = f'direct_caller("{shown[0]}") and caller("*_owner", 1)'
    run = ptap.trace(probe, [program], "--when", predicate, backend=backend)
    assert len(run.traces) == shown.count(shown[0]) > 0


def test_what_cannot_be_understood_ends_at_once(ptap):
    run = ptap.run("--when", "caller(main)", 'process("/bin/true").function("main")', "--", "/bin/true")
    assert run.status == 2 and "column 8" in run.stderr and "Traceback" not in run.stderr
