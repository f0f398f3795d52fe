"""How often rings are looked at that do not tell when they have something."""

from __future__ import annotations

from ptap_target.look_pause import LookPause


def test_pauses_grow_to_the_longest_and_shrink_where_much_comes() -> None:
    pause = LookPause(0.001, 0.1)
    assert pause.seconds == 0.001
    grown = [pause.after(crowded=False) for _ in range(10)]
    assert grown == sorted(grown) and grown[0] == 0.002 and grown[-1] == 0.1
    shrunk = [pause.after(crowded=True) for _ in range(5)]
    assert shrunk[0] == 0.025 and shrunk[-1] == 0.001


def test_what_comes_evenly_is_read_before_the_longest_pause_would_lose_it() -> None:
    """A ring that holds what comes in 60 ms, of a source that the longest pause is too long for."""
    room, pause = 0.06, LookPause(0.001, 0.1)
    for _ in range(1000):
        assert pause.seconds < room
        pause.after(crowded=pause.seconds > room / 8)
