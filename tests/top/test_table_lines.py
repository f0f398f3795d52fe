"""The lines of the tables: what stands in them, in which order, narrowed down to what."""

from __future__ import annotations

import pytest
from stack_profile.made_traces import PROGRAM, frame, trace

from ptap.profile.stack_profile import Thread
from ptap.top.selection import Selection, Table
from ptap.top.sliding_profile import Scope, SlidingProfile
from ptap.top.status_lines import SamplingState, status_lines
from ptap.top.table_lines import Colour, Order
from unwind.trace import Trace, TraceFrame

_SECOND = 1_000_000_000


def kernel(name: str) -> TraceFrame:
    return TraceFrame("kernel", 0xFFFFFFFF81000000, "[kernel]", None, name)


def known_traces() -> list[Trace]:
    """6 samples of one thread and 4 of another, in the first second."""
    hot = [frame("hot"), frame("work"), frame("main")]
    warm = [frame("warm"), frame("main")]
    system = [kernel("do_read"), frame("Read"), frame("work"), frame("main")]
    return [
        *(trace(hot, time_ns=number) for number in range(4)),
        *(trace(warm, time_ns=number) for number in range(2)),
        *(trace(system, tid=20, comm="reader", time_ns=number) for number in range(3)),
        trace([TraceFrame("user", 0x7000, "/usr/lib/libx.so.1")], tid=20, comm="reader", time_ns=5),
    ]


@pytest.fixture
def profile() -> SlidingProfile:
    made = SlidingProfile(5 * _SECOND, 0)
    for each in known_traces():
        made.add(each)
    made.advance(2 * _SECOND)
    return made


def texts(selection: Selection, profile: SlidingProfile) -> list[list[str]]:
    return [line.text.split() for line in selection.lines(profile, 10)]


def test_functions_by_self_and_by_total(profile):
    assert PROGRAM.endswith("/prog")
    by_self = texts(Selection(), profile)
    assert by_self[:4] == [
        ["40.00%", "40.00%", "4", "u", "hot", "prog"],
        ["30.00%", "30.00%", "3", "k", "do_read", "[kernel]"],
        ["20.00%", "20.00%", "2", "u", "warm", "prog"],
        ["10.00%", "10.00%", "1", "u", "[libx.so.1]"],
    ]
    by_total = texts(Selection(order=Order.TOTAL), profile)
    assert [row[1:5] for row in by_total[:3]] == [
        ["90.00%", "0", "u", "main"],
        ["70.00%", "0", "u", "work"],
        ["40.00%", "4", "u", "hot"],
    ]
    assert sorted(by_self) == sorted(by_total)
    colours = {line.text.split()[4]: line.colour for line in Selection().lines(profile, 10)}
    assert colours["do_read"] is Colour.KERNEL and colours["hot"] is Colour.USER


def test_one_thread_has_its_own_shares(profile):
    selection = Selection(table=Table.THREADS)
    threads = selection.lines(profile, 10)
    assert [line.text.split() for line in threads] == [
        ["30.0%", "6", "10", "10", "prog", "hot"],  # 6 samples of 10 Hz in 2 seconds
        ["20.0%", "4", "10", "20", "reader", "do_read"],
    ]
    selection.open(threads[1].subject)
    assert selection.thread == Thread(10, 20, "reader")
    assert [(row[0], row[4]) for row in texts(selection, profile)[:2]] == [
        ("75.00%", "do_read"),
        ("25.00%", "[libx.so.1]"),
    ]
    assert "thread reader 20" in selection.description(profile)
    assert selection.widen() and selection.table is Table.THREADS and not selection.widen()


def test_stacks_open_to_their_frames(profile):
    selection = Selection(table=Table.STACKS)
    closed = selection.lines(profile, 10)
    assert closed[0].text.split() == ["40.00%", "4", "+", "hot", "<", "work", "<", "main"] and len(closed) == 4
    selection.open(closed[1].subject)
    opened = selection.lines(profile, 10)
    assert [line.text.split() for line in opened[1:6]] == [
        ["30.00%", "3", "-", "do_read", "<", "Read", "<", "work", "<", "main"],
        ["k", "do_read", "[kernel]"],
        ["u", "Read", "prog"],
        ["u", "work", "prog"],
        ["u", "main", "prog"],
    ]
    selection.open(opened[3].subject)  # Enter on a frame closes its stack
    assert selection.lines(profile, 10) == closed


def test_from_a_function_to_the_stacks_it_is_in(profile):
    selection = Selection()
    work = next(line for line in selection.lines(profile, 10) if " work " in line.text)
    selection.open(work.subject)
    assert selection.table is Table.STACKS and [row[3] for row in texts(selection, profile)] == ["hot", "do_read"]
    selection.words = "hot"
    assert [row[3] for row in texts(selection, profile)] == ["hot"]
    assert selection.widen() and selection.widen() and selection.table is Table.FUNCTIONS


@pytest.mark.parametrize(
    ("words", "functions", "stacks"),
    [
        ("u", set(), 0),  # the letter before the name does not count
        ("read", {"Read", "do_read"}, 1),
        ("Re", {"Read"}, 1),
        ("PROG", set(), 0),
        ("prog", {"Read", "warm", "work", "hot", "main"}, 3),
        ("[kernel]", {"do_read"}, 1),
        ("libx", {"[libx.so.1]"}, 1),
    ],
)
def test_words_narrow_down_and_capitals_count_when_there_are_some(profile, words, functions, stacks):
    assert {row[4] for row in texts(Selection(words=words), profile)} == functions
    assert len(texts(Selection(table=Table.STACKS, words=words), profile)) == stacks


def test_threads_are_narrowed_down_too(profile):
    assert [row[4] for row in texts(Selection(table=Table.THREADS, words="reader"), profile)] == ["reader"]


def test_the_status_tells_counts_rates_and_losses(profile):
    state = SamplingState("./prog\x1b[2J", 10, lost=7, skipped=2, lag_s=3.2)
    head, counts, threads = status_lines(profile, Scope.WINDOW, state)
    assert head == "10 Hz  last 5 s  ./prog\\x1b[2J"
    assert counts == "10 samples (5 a second), 7 lost, 2 skipped (their turn came too late), 3 s behind"
    assert threads == "CPU 50.0%: 30.0% prog 10, 20.0% reader 20"
    assert status_lines(profile, Scope.START, state)[0] == "10 Hz  since the start, 2 s  ./prog\\x1b[2J"
