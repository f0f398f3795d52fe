"""The terminal of `ptap top`, driven by keys without a terminal, on traces that are made here."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

from stack_profile.made_traces import frame, strange_traces, trace
from textual.pilot import Pilot
from textual.widgets import Input, Static

from ptap.top.sliding_profile import SlidingProfile
from ptap.top.status_lines import SamplingState
from ptap.top.view import HelpScreen, TopView
from unwind.trace import Trace, TraceFrame

_SECOND = 1_000_000_000
_NEVER = 100_000.0
"""Seconds between two looks: the tests look themselves."""


class Feed:
    """What a session would give."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.interrupted = False
        self.now_ns = 0
        self.waiting: list[Trace] = []
        self.lost = 0
        self.target = "./prog"

    def take(self) -> list[Trace]:
        taken, self.waiting = self.waiting, []
        return taken

    def state(self) -> SamplingState:
        return SamplingState(self.target, 10, self.lost, ended=self.ended.is_set())

    def sample(self, count: int, *names: str, tid: int = 10) -> None:
        """So many samples of a stack, innermost function first, at the present."""
        frames = [
            TraceFrame("kernel", 0xFFFFFFFF81000000, "[kernel]", None, name) if name == "do_read" else frame(name)
            for name in names
        ]
        self.waiting += [trace(frames, time_ns=self.now_ns, tid=tid, comm=f"thread{tid}") for _ in range(count)]


def drive(feed: Feed, steps: Callable[[TopView, Pilot[None]], Awaitable[None]]) -> None:
    """Run the view with a window of five seconds, and `steps` on it."""

    async def run() -> None:
        view = TopView(feed, SlidingProfile(5 * _SECOND, 0), _NEVER)
        async with view.run_test(size=(100, 20)) as pilot:
            await pilot.pause()
            await steps(view, pilot)

    asyncio.run(run())


def rows(view: TopView) -> list[list[str]]:
    """What is really on the screen below the titles, by words."""
    screen = view.screen_stack[0]
    lines = ["".join(segment.text for segment in strip) for strip in screen._compositor.render_strips()]
    return [words for line in lines[4:-1] if (words := line.replace("▁", " ").split())]


def text_of(view: TopView, name: str) -> str:
    return str(view.query_one(name, Static).render())


def two_threads() -> Feed:
    feed = Feed()
    feed.now_ns = _SECOND
    feed.sample(5, "hot", "work", "main")
    feed.sample(3, "do_read", "Read", "main", tid=20)
    feed.sample(2, "warm", "main")
    return feed


def test_the_three_tables_and_the_ways_between_them():
    async def steps(view: TopView, pilot: Pilot[None]) -> None:
        assert rows(view)[0] == ["50.00%", "50.00%", "5", "u", "hot", "prog"]
        assert "10 samples (10 a second), 0 lost" in text_of(view, "#status")
        await pilot.press("o")
        assert [row[4] for row in rows(view)[:2]] == ["main", "hot"]
        await pilot.press("down", "enter")  # the stacks with hot
        assert rows(view) == [["50.00%", "5", "+", "hot", "<", "work", "<", "main"]]
        assert "stacks with hot" in text_of(view, "#status")
        await pilot.press("enter")
        assert [row[:2] for row in rows(view)[1:]] == [["u", "hot"], ["u", "work"], ["u", "main"]]
        await pilot.press("escape", "t", "end", "enter")
        assert [row[4] for row in rows(view)] == ["do_read", "Read", "main"]
        assert "thread thread20 20" in text_of(view, "#status") and view._rows.cursor == 0
        await pilot.press("escape", "tab")
        assert [row[4] for row in rows(view)] == ["main", "hot", "work", "do_read", "Read", "warm"]

    drive(two_threads(), steps)


def test_a_window_slides_and_the_start_stays():
    feed = two_threads()

    async def steps(view: TopView, pilot: Pilot[None]) -> None:
        feed.now_ns, feed.lost = 7 * _SECOND, 4
        feed.sample(1, "late", "main")
        view.refresh_samples()
        await pilot.pause()
        assert [row[4] for row in rows(view)] == ["late", "main"] and "4 lost" in text_of(view, "#status")
        await pilot.press("w")
        assert [row[4] for row in rows(view)][:3] == ["hot", "do_read", "warm"]
        assert "since the start, 7 s" in text_of(view, "#status")
        await pilot.press("r")
        assert not rows(view) and "since the start, 0 s" in text_of(view, "#status")

    drive(feed, steps)


def test_search_goes_to_lines_and_only_leaves_others_out():
    async def steps(view: TopView, pilot: Pilot[None]) -> None:
        await pilot.press("slash", "r", "e", "a")
        assert view._rows.cursor == 1 and len(rows(view)) > 5
        await pilot.press("backspace", "backspace", "backspace", "w")
        assert view._rows.cursor == 2  # from where the search began, not from what was found on the way
        await pilot.press("escape", "slash", *"rea")
        await pilot.press("enter", "n")
        assert "Read" in view._rows.lines[view._rows.cursor].text and view._rows.cursor != 1
        await pilot.press("N")
        assert view._rows.cursor == 1
        await pilot.press("ampersand", *"read")
        assert {row[4] for row in rows(view)[:-1]} == {"Read", "do_read"}  # the last line is the prompt's
        await pilot.press("escape")
        assert len(rows(view)) == 6 and not view.query_one("#prompt", Input).has_class("asked")
        await pilot.press("ampersand", *"wo", "enter")
        assert [row[4] for row in rows(view)] == ["work"] and "only “wo”" in text_of(view, "#status")
        await pilot.press("escape", "escape")  # the search, then the words
        assert len(rows(view)) == 6

    drive(two_threads(), steps)


def test_a_pause_holds_the_screen_and_loses_nothing():
    feed = two_threads()

    async def steps(view: TopView, pilot: Pilot[None]) -> None:
        await pilot.press("p")
        before = rows(view)
        feed.sample(90, "late", "main")
        view.refresh_samples()
        await pilot.pause()
        assert rows(view) == before and "PAUSED" in text_of(view, "#status")
        await pilot.press("o")  # what stands still can be looked at
        assert rows(view) != before and sorted(rows(view)) == sorted(before)
        await pilot.press("o", "space")
        assert rows(view)[0] == ["90.00%", "90.00%", "90", "u", "late", "prog"]

    drive(feed, steps)


def test_the_chosen_line_is_followed_unless_it_is_the_first():
    feed = two_threads()

    async def steps(view: TopView, pilot: Pilot[None]) -> None:
        feed.sample(100, "warm", "main")
        view.refresh_samples()
        await pilot.pause()
        assert view._rows.cursor == 0 and rows(view)[0][4] == "warm"
        await pilot.press("down")
        chosen = view._rows.lines[1].subject
        feed.sample(50, "late", "main")
        view.refresh_samples()
        assert view._rows.cursor == 2 and view._rows.lines[2].subject == chosen

    drive(feed, steps)


def test_kernel_and_user_have_colours_of_their_own():
    async def steps(view: TopView, pilot: Pilot[None]) -> None:
        kernel, user = (next(iter(view._rows.render_line(at))).style for at in (1, 2))
        assert "do_read" in view._rows.lines[1].text and kernel is not None and user is not None
        assert kernel.color != user.color

    drive(two_threads(), steps)


def test_any_name_can_be_shown():
    feed = Feed()
    feed.waiting = list(strange_traces())

    async def steps(view: TopView, pilot: Pilot[None]) -> None:
        for key in ("f", "s", "t"):
            await pilot.press(key)
            assert view._rows.lines and all(view._rows.render_line(at) for at in range(len(view._rows.lines)))
            assert not any(character in line.text for line in view._rows.lines for character in "\n\x1b")

    drive(feed, steps)


def test_help_opens_and_any_key_closes_it():
    async def steps(view: TopView, pilot: Pilot[None]) -> None:
        await pilot.press("question_mark")
        assert isinstance(view.screen, HelpScreen)
        await pilot.press("x")
        assert not isinstance(view.screen, HelpScreen)

    drive(two_threads(), steps)


def test_many_lines_scroll_to_the_chosen_one():
    feed = Feed()
    feed.now_ns = _SECOND
    for number in range(200):
        feed.sample(1, f"function{number:03}")

    async def steps(view: TopView, pilot: Pilot[None]) -> None:
        await pilot.press("end")
        await pilot.pause()
        assert rows(view)[-1][4] == "function199"
        await pilot.press("slash", *"function123", "enter")
        await pilot.pause()
        assert "function123" in [row[4] for row in rows(view)]
        await pilot.press("home")
        await pilot.pause()
        assert rows(view)[0][4] == "function000"

    drive(feed, steps)


def test_a_long_command_leaves_room_for_the_counts():
    feed = two_threads()
    feed.target = "./prog " * 100

    async def steps(view: TopView, pilot: Pilot[None]) -> None:
        lines = ["".join(part.text for part in strip) for strip in view.screen._compositor.render_strips()[:3]]
        assert lines[0].startswith("functions by self  10 Hz  last 5 s  ./prog ./prog")
        assert lines[1].startswith("10 samples") and lines[2].startswith("CPU ")

    drive(feed, steps)


def test_it_ends_by_a_key_and_when_it_is_asked_to():
    feed = two_threads()

    async def asked(view: TopView, pilot: Pilot[None]) -> None:
        feed.ended.set()
        view.refresh_samples()
        assert view.is_running and "(ended)" in text_of(view, "#status")  # the end of the target is not ours
        feed.interrupted = True
        view.end_if_asked()
        await pilot.pause()
        assert not view.is_running

    async def by_key(view: TopView, pilot: Pilot[None]) -> None:
        await pilot.press("q")
        await pilot.pause()
        assert not view.is_running

    drive(feed, asked)
    drive(two_threads(), by_key)
