"""Frames that are taken over from an earlier walk: up to the first thing that is not the same, and no further."""

from __future__ import annotations

from array import array
from collections.abc import Callable

import pytest

from unwind import outer_frames
from unwind.place_table import (
    PLACE_CFA_OFFSET,
    PLACE_CFA_REGISTER,
    PLACE_RETURN_OFFSET,
    PLACE_SAVED,
    PLACE_WIDTH,
    PLACE_WORDS,
)
from unwind.walk import (
    CALLEE_SAVED,
    RETURN_ADDRESS,
    STACK_POINTER,
    STATE_KNOWN,
    STATE_PREVIOUS_CFA,
    STATE_WIDTH,
)

_RBP, _R12 = 6, 12
_FRAMES = 6
_SIZE = 32
"""Bytes of each frame: a word of no meaning, the saved r12 and rbp, the return address."""
_BASE = 0x7FF000
_SET = 3
_SLOT = 2


class Walk:
    """A walk through `_FRAMES` frames of functions that save r12 and rbp; of every other the CFA comes from rbp."""

    def __init__(self) -> None:
        self.kept = array("q", bytes(8 * outer_frames.KEPT_WIDTH))
        self.places = array("q", bytes(8 * PLACE_WIDTH * _FRAMES))
        for place in range(_FRAMES):
            at = place * PLACE_WIDTH
            self.places[at + PLACE_CFA_REGISTER] = _RBP if place % 2 else STACK_POINTER
            self.places[at + PLACE_CFA_OFFSET] = _SIZE
            self.places[at + PLACE_RETURN_OFFSET] = -8
            self.places[at + PLACE_SAVED] = 2
            self.places[at + PLACE_WORDS : at + PLACE_WORDS + 2] = array("q", [-16 * 32 + _RBP, -24 * 32 + _R12])
        self.words = [0] * (4 * _FRAMES)
        for frame in range(_FRAMES):
            self.words[4 * frame : 4 * frame + 4] = 0, 100 + frame, self.pointer(frame + 1), 0x401000 + frame
        self.state = array("q", bytes(8 * STATE_WIDTH))

    @staticmethod
    def pointer(frame: int) -> int:
        """The stack pointer in a frame, which rbp has as well."""
        return _BASE + frame * _SIZE

    def begin(self) -> None:
        """The state in the innermost frame."""
        for register, value in ((STACK_POINTER, _BASE), (_RBP, _BASE), (_R12, 99), (RETURN_ADDRESS, 0x400FFF)):
            self.state[register] = value
        self.state[STATE_KNOWN] = CALLEE_SAVED | 1 << STACK_POINTER | 1 << RETURN_ADDRESS
        self.state[STATE_PREVIOUS_CFA] = _BASE

    def step(self, frame: int) -> None:
        """What a step from a frame makes of the state."""
        _, self.state[_R12], self.state[_RBP], self.state[RETURN_ADDRESS] = self.words[4 * frame : 4 * frame + 4]
        self.state[STACK_POINTER] = self.state[STATE_PREVIOUS_CFA] = self.pointer(frame + 1)

    def note(self) -> None:
        """Walk, and keep all of it."""
        self.begin()
        for frame in range(_FRAMES):
            outer_frames.note_frame(self.kept, _SLOT, frame, self.state)
            self.step(frame)
            at = frame * PLACE_WIDTH
            assert outer_frames.note_step(self.kept, _SLOT, frame, self.places, frame, at, self.state) == frame + 1
        outer_frames.note_frame(self.kept, _SLOT, _FRAMES, self.state)
        outer_frames.keep(self.kept, _SLOT, _FRAMES, _SET)

    def take(self, first: int = 0, last: int = _FRAMES, size: int = _SIZE * _FRAMES) -> int:
        """How many frames are taken over by the state from the frame `first` on, with `size` bytes of stack copied."""
        count = outer_frames.kept_count(self.kept, _SLOT, _SET)
        index = outer_frames.frame_above(self.kept, _SLOT, 0, count, self.state[STACK_POINTER])
        if not outer_frames.is_kept(self.kept, _SLOT, index, count, self.state):
            return 0
        piece, frames = array("q", [_BASE, 0, size, 0]), array("i", [-1] * _FRAMES)
        data = b"".join(word.to_bytes(8, "little") for word in self.words)
        taken = outer_frames.take_frames(
            self.kept, _SLOT, index, count, memoryview(data), piece, self.state, frames, 0, last
        )
        assert frames[:taken].tolist() == list(range(first, first + taken))
        return taken


@pytest.fixture
def walk() -> Walk:
    noted = Walk()
    noted.note()
    noted.begin()
    return noted


@pytest.mark.parametrize("first", range(_FRAMES))
def test_what_is_the_same_is_taken_over_from_any_frame(walk: Walk, first: int) -> None:
    for frame in range(first):
        walk.step(frame)
    assert walk.take(first) == _FRAMES - first
    taken = walk.state[:]
    walk.begin()
    for frame in range(_FRAMES):
        walk.step(frame)
    assert taken == walk.state


@pytest.mark.parametrize("word", range(4 * _FRAMES))
def test_a_word_that_differs_ends_it_where_it_decides(walk: Walk, word: int) -> None:
    walk.words[word] += 8
    frame, kind = divmod(word, 4)
    expected = _FRAMES
    if kind == 3:  # a return address
        expected = frame
    elif kind == 2 and frame % 2 == 0:  # rbp, which the next step uses
        expected = frame + 1
    assert walk.take() == expected
    reached = walk.state[:]
    walk.begin()
    for taken in range(expected):
        walk.step(taken)
    assert reached == walk.state


@pytest.mark.parametrize("size", range(0, _SIZE * _FRAMES + 1, 8))
def test_words_that_were_not_copied_end_it(walk: Walk, size: int) -> None:
    assert walk.take(size=size) == size // _SIZE


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        (lambda state: state.__setitem__(RETURN_ADDRESS, 0x400FF0), 0),
        (lambda state: state.__setitem__(STATE_KNOWN, state[STATE_KNOWN] & ~(1 << _R12)), 0),
        (lambda state: state.__setitem__(STACK_POINTER, _BASE - 8), 0),
        # The first step does not use rbp, and leaves another; r12 no step uses.
        (lambda state: state.__setitem__(_RBP, 0), _FRAMES),
        (lambda state: state.__setitem__(_R12, 0), _FRAMES),
    ],
)
def test_only_a_state_that_steps_see_as_the_same_takes_anything(
    walk: Walk, change: Callable[[array[int]], None], taken: int
) -> None:
    change(walk.state)
    assert walk.take() == taken


def test_a_register_that_a_step_uses_must_be_the_same(walk: Walk) -> None:
    walk.step(0)
    walk.state[_RBP] += 8
    assert walk.take() == 0


def test_no_more_is_taken_than_there_is_room_for(walk: Walk) -> None:
    assert walk.take(last=2) == 2


def test_other_mappings_and_walks_that_were_mostly_different_leave_nothing(walk: Walk) -> None:
    assert outer_frames.kept_count(walk.kept, _SLOT, _SET + 1) == 0
    for taken in [2] * 7 + [3] + [2] * 7:
        outer_frames.judge(walk.kept, _SLOT, taken, 6)
        assert outer_frames.kept_count(walk.kept, _SLOT, _SET) == _FRAMES, "half of one was the same"
    outer_frames.judge(walk.kept, _SLOT, 2, 6)
    assert outer_frames.kept_count(walk.kept, _SLOT, _SET) == 0


def test_a_step_with_a_word_that_was_not_there_makes_all_before_it_useless(walk: Walk) -> None:
    walk.step(0)
    walk.state[STATE_KNOWN] &= ~(1 << _R12)
    outer_frames.note_frame(walk.kept, _SLOT, 0, walk.state)
    assert outer_frames.note_step(walk.kept, _SLOT, 0, walk.places, 0, 0, walk.state) == 0


def test_a_deep_stack_is_kept_as_far_as_there_is_room(walk: Walk) -> None:
    noted = 0
    while True:
        outer_frames.note_frame(walk.kept, _SLOT, noted, walk.state)
        following = outer_frames.note_step(walk.kept, _SLOT, noted, walk.places, 0, 0, walk.state)
        if following == outer_frames.NO_ROOM:
            break
        assert following == noted + 1
        noted = following
    assert 100 < noted <= 512
