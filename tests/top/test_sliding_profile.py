"""The model of `ptap top` against sums that are made anew of all traces, each time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from stack_profile.made_traces import frame, random_traces, strange_traces, trace

from cfi_tables.layout import StopReason
from ptap.profile.stack_profile import Function, Thread
from ptap.top.sliding_profile import Scope, SlidingProfile
from ptap.top.tally import Tally
from unwind.trace import Trace

_MS = 1_000_000
_WINDOW_MS = 200


def functions_of(each: Trace) -> list[str]:
    names = [one.function if one.function is not None else "[libx.so.1]" for one in each.frames]
    return names if each.stop is StopReason.END_OF_STACK else [*names, "[cut short: stack cut]"]


def summed(traces: Iterable[Trace]) -> tuple[Counter[str], Counter[str], Counter[tuple[str, ...]]]:
    """Weights by function itself, by function with what it calls, by stack."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    stacks: Counter[tuple[str, ...]] = Counter()
    for each in traces:
        names = functions_of(each)
        own[names[0]] += each.weight
        stacks[tuple(names)] += each.weight
        for name in set(names):
            total[name] += each.weight
    return own, total, stacks


def named(profile: SlidingProfile, tally: Tally) -> tuple[Counter[str], Counter[str], Counter[tuple[str, ...]]]:
    names = [function.name for function in profile.functions]
    return (
        Counter({names[function]: weight for function, weight in tally.own.items()}),
        Counter({names[function]: weight for function, weight in tally.total.items()}),
        Counter({tuple(names[one] for one in stack.functions): weight for stack, weight in tally.stacks.items()}),
    )


def check(profile: SlidingProfile, scope: Scope, traces: list[Trace]) -> None:
    """All threads, and each, have what `traces` have, and there are no others."""
    assert named(profile, profile.tally(scope)) == summed(traces)
    assert profile.tally(scope).weight == sum(each.weight for each in traces)
    assert profile.tally(scope).samples == len(traces)
    cut = sum(each.weight for each in traces if each.stop is not StopReason.END_OF_STACK)
    assert profile.tally(scope).cut == cut
    threads = {Thread(each.pid, each.tid, each.comm) for each in traces}
    assert {thread for thread, _ in profile.threads(scope)} == threads
    for thread in threads:
        of_thread = [each for each in traces if each.tid == thread.tid]
        assert named(profile, profile.tally(scope, thread)) == summed(of_thread)


def test_sums_are_those_of_the_samples_in_the_window():
    traces = list(random_traces(1500))
    profile = SlidingProfile(_WINDOW_MS * _MS, 0)
    for number, each in enumerate(traces):
        profile.add(each)
        profile.advance(each.time_ns)
        if number % 100 == 7:
            seen = traces[: number + 1]
            check(profile, Scope.WINDOW, [one for one in seen if one.time_ns > each.time_ns - _WINDOW_MS * _MS])
            check(profile, Scope.START, seen)
    profile.advance(traces[-1].time_ns + _WINDOW_MS * _MS - _MS)
    check(profile, Scope.WINDOW, traces[-1:])
    profile.advance(traces[-1].time_ns + _WINDOW_MS * _MS)
    check(profile, Scope.WINDOW, [])
    check(profile, Scope.START, traces)


def test_late_samples_are_in_the_start_and_in_the_window_only_while_they_are_of_it():
    profile = SlidingProfile(100 * _MS, 0)
    profile.advance(1000 * _MS)
    late, in_time = trace([frame("late")], time_ns=900 * _MS), trace([frame("in_time")], time_ns=901 * _MS)
    profile.add(late)
    profile.add(in_time)
    check(profile, Scope.WINDOW, [in_time])
    check(profile, Scope.START, [late, in_time])
    profile.advance(500 * _MS)  # the present does not go back
    assert profile.now_ns == 1000 * _MS and profile.seconds(Scope.WINDOW) == 0.1 and profile.seconds(Scope.START) == 1


def test_a_reset_forgets_and_a_frozen_profile_does_not_change():
    first, second = list(random_traces(300)), list(random_traces(300, seed=2))
    profile = SlidingProfile(10_000 * _MS, 0)
    for each in first:
        profile.add(each)
    profile.advance(300 * _MS)
    frozen = profile.frozen()
    profile.reset()
    check(profile, Scope.WINDOW, [])
    check(profile, Scope.START, [])
    assert profile.seconds(Scope.START) == 0
    for each in second:
        profile.add(each)
    check(profile, Scope.WINDOW, second)
    check(profile, Scope.START, second)
    check(frozen, Scope.START, first)
    check(frozen, Scope.WINDOW, first)


def test_nothing_is_lost_whatever_it_is_called():
    profile = SlidingProfile(10_000 * _MS, 0)
    traces = list(strange_traces())
    for each in traces:
        profile.add(each)
    assert profile.tally(Scope.START).weight == sum(each.weight for each in traces)
    assert profile.functions[-1] == Function("[no stack]", "")


@pytest.mark.parametrize("scope", Scope)
def test_recursion_counts_a_sample_once(scope):
    profile = SlidingProfile(10_000 * _MS, 0)
    profile.add(trace([frame("again"), frame("other"), frame("again"), frame("main")], weight=3))
    assert named(profile, profile.tally(scope))[1] == Counter(again=3, other=3, main=3)
