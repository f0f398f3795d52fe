"""The comparison itself: a stack agrees with itself, and each kind of change is told."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from oracles import elf_facts
from oracles.agreement import disagreements, normal_value, same_function
from oracles.gdb import GdbOracle, Hit


@pytest.fixture(scope="module")
def hit(programs, gdb_oracle: GdbOracle) -> Hit:
    program = programs.build("orders")
    return gdb_oracle.run(program, [(program, elf_facts.address(program, "apply_discount"))], max_hits=1)[0]


def as_contract(hit: Hit) -> list[dict[str, Any]]:
    """gdb's own answer in the shape of the output contract, as another run would have it."""
    return [
        {
            "space": "user",
            "address": hex(frame.pc + 0x1234000),
            "module": None,
            "offset": None,
            "function": frame.function,
            "file": frame.file,
            "line": frame.line,
            "inlined": frame.inlined,
            "arguments": [
                {
                    "name": one.name,
                    "type": one.type,
                    "value": None if one.unavailable else one.value,
                    "why": "optimized out" if one.unavailable else None,
                }
                for one in reversed(frame.arguments)
            ],
        }
        for frame in hit.frames
    ]


def test_a_stack_agrees_with_itself(hit: Hit) -> None:
    assert disagreements(as_contract(hit), hit, arguments=range(len(hit.frames))) == []


def test_kernel_frames_are_not_gdb_s_business(hit: Hit) -> None:
    kernel = {**as_contract(hit)[0], "space": "kernel", "function": "entry_SYSCALL_64"}
    assert disagreements([kernel, *as_contract(hit)], hit) == []


CHANGES: dict[str, tuple[Callable[[list[dict[str, Any]]], Any], str]] = {
    "a frame is missing": (lambda frames: frames.pop(), "11 frames, gdb has 12"),
    "a frame is too many": (lambda frames: frames.append(frames[-1]), "13 frames, gdb has 12"),
    "another pc": (lambda frames: frames[2].update(address="0x555555555001"), "frame 2: pc"),
    "another function": (lambda frames: frames[1].update(function="price_item"), "frame 1: function"),
    "no function": (lambda frames: frames[1].update(function=None), "frame 1: function None"),
    "another line": (lambda frames: frames[5].update(line=1), "frame 5: orders.c:1,"),
    "another file": (lambda frames: frames[5].update(file="/x/pricing.c"), "frame 5: pricing.c"),
    "not inlined": (lambda frames: frames[1].update(inlined=False), "frame 1: inlined"),
    "another value": (lambda frames: frames[0]["arguments"][1].update(value="4501"), "cents = 4501"),
    "a guessed value": (lambda frames: frames[1]["arguments"][0].update(value="0"), "frame 1: parts = 0"),
    "a lost argument": (lambda frames: frames[0]["arguments"].pop(), "frame 0: arguments"),
    "no reason": (lambda frames: frames[1]["arguments"][0].update(why=None), "neither a value nor a reason"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_told(hit: Hit, change: str) -> None:
    frames = copy.deepcopy(as_contract(hit))
    CHANGES[change][0](frames)
    told = disagreements(frames, hit, arguments=range(len(hit.frames)))
    assert any(CHANGES[change][1] in one for one in told), told


@pytest.mark.parametrize(
    ("ours", "gdbs", "same"),
    [
        ("garden::Plant::grow(int, garden::Season)", "garden::Plant::grow", True),
        ("garden::(anonymous namespace)::anonymous(char16_t)", "garden::(anonymous namespace)::anonymous", True),
        ("long garden::scaled<long, 3>(long, long const*)", "garden::scaled<long, 3>", True),
        ("garden::scaled<double, 2>", "garden::scaled<long, 3>", False),
        ("garden::Plant::operator+=(int)", "garden::Plant::operator+=", True),
        ("main::{lambda(int)#1}::operator()(int) const", "operator()", True),
        ("(anonymous)::operator()<ns::T>(ns::T) const", "operator()<ns::T>", True),
        ("(anonymous)::operator()<ns::T>(ns::T) const", "operator()<ns::U>", False),
        ("raise", "__GI_raise", True),
        ("hidden_middle", "hidden_middle.constprop.0", True),
        ("price_item", "price_items", False),
        (None, "price_item", False),
        (None, None, True),
    ],
)
def test_names_are_compared_without_their_dress(ours: str | None, gdbs: str | None, same: bool) -> None:
    assert same_function(ours, gdbs) == same


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ('0x555555556030 "plain text"', '0x… "plain text"'),
        ("0x555555557d40 <pens>", "0x…"),
        ("0x555555557d40 <pens+16>", "0x…"),
        ("0x10", "0x10"),
        ('{name = 0x555555556018 "Ada", age = 36}', '{name = 0x… "Ada", age = 36}'),
        ('"a <b> c"', '"a <b> c"'),
        ("-300", "-300"),
    ],
)
def test_values_lose_only_what_differs_from_run_to_run(text: str, normal: str) -> None:
    assert normal_value(text) == normal
