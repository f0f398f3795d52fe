"""Stack bytes at a hit: truthful, marked when cut, and free of return trampolines."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ptap.backend.live_capture import CaptureLimits, PlaceKind, ProbePlace, Target
from ptap.backend.perf_events.capture import PerfCapture
from relay_reader.capture import Sample

Place = Callable[..., ProbePlace]

STACKS = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((noinline)) void leaf(long depth) { __asm__ volatile("" : : "r"(depth) : "memory"); }

/* Each call tells where its return address lies. */
__attribute__((noinline)) long descend(long depth) {
    void **slot = __builtin_dwarf_cfa();
    slot--;
    printf("slot %d %ld %p\n", getpid(), depth, (void *)slot);
    long below = 0;
    if (depth > 0) below = descend(depth - 1); else leaf(depth);
    __asm__ volatile("" : "+r"(below));
    return below + 1;
}
__attribute__((noinline)) long chained(long x) { leaf(x); __asm__ volatile("" : "+r"(x)); return x * 3; }
__attribute__((noinline)) long chain(long x) { __asm__ volatile("" : "+r"(x)); return chained(x + 1); }

__attribute__((noinline)) void fill(long size) {
    unsigned char *array = __builtin_alloca(size);
    for (long i = 0; i < size; i++) array[i] = (unsigned char)(i * 7 + 3);
    printf("array %p %ld\n", (void *)array, size);
    leaf((long)array);
}
int main(int argc, char **argv) {
    if (!strcmp(argv[1], "fill")) fill(atol(argv[2]));
    if (!strcmp(argv[1], "descend")) descend(atol(argv[2]));
    if (!strcmp(argv[1], "chain")) printf("%ld\n", chain(5));
    fflush(stdout);
    return 0;
}
"""

INHERIT = r"""
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
__attribute__((noinline)) void leaf(long depth) { __asm__ volatile("" : : "r"(depth) : "memory"); }
__attribute__((noinline)) long outer(long x) {
    leaf(0);
    if (!fork()) leaf(1);
    else wait(NULL);
    __asm__ volatile("" : "+r"(x));
    return x + 1;
}
int main(void) { return (int)outer(1) - 2; }
"""


@pytest.fixture(scope="module")
def stacks(build: Callable[..., str]) -> str:
    return build("stacks", STACKS, "-fno-optimize-sibling-calls", "-fno-ipa-cp", "-fno-ipa-icf")


def hits(command: tuple[str, ...], places: list[ProbePlace], size: int) -> tuple[list[Sample], PerfCapture]:
    capture = PerfCapture(Target(command), places, CaptureLimits(size))
    try:
        capture.start()
        return [event for event in capture.events() if isinstance(event, Sample)], capture
    finally:
        capture.close()


def word(sample: Sample, address: int) -> int:
    part = sample.slices[0]
    at = address - part.address
    assert 0 <= at <= len(part.data) - 8
    return int.from_bytes(part.data[at : at + 8], "little")


@pytest.mark.parametrize("size", [100, 5000, 30000])
def test_stack_bytes_are_truthful(stacks: str, place: Place, capfd: pytest.CaptureFixture[str], size: int) -> None:
    found, _ = hits((stacks, "fill", str(size)), [place(stacks, "leaf")], 65528)
    _, address, _ = capfd.readouterr().out.split()
    (part,) = found[0].slices
    at = int(address, 16) - part.address
    assert part.data[at : at + size] == bytes((i * 7 + 3) % 256 for i in range(size))
    assert not part.cut, "the copy reached the end of the stack"


def test_a_stack_deeper_than_the_limit_is_marked_cut(stacks: str, place: Place) -> None:
    found, _ = hits((stacks, "fill", "100000"), [place(stacks, "leaf")], 1 << 20)
    (part,) = found[0].slices
    assert part.cut
    # The kernel trims the dump so that the record's size fits 16 bits.
    assert 64000 < len(part.data) <= 65528
    found, _ = hits((stacks, "fill", "1000"), [place(stacks, "leaf")], 512)
    assert (len(found[0].slices[0].data), found[0].slices[0].cut) == (512, True)


def test_no_stack_asked_for(stacks: str, place: Place) -> None:
    found, _ = hits((stacks, "fill", "1000"), [place(stacks, "leaf")], 0)
    assert [(hit.slices, len(hit.registers)) for hit in found] == [([], 17)]


def test_trampolines_in_a_recursion_are_replaced(stacks: str, place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    depth = 30
    # The oracle: the same slots in a run where nothing is return-probed. Addresses differ from run to run only by
    # where the kernel put the program, which the pc of the hit in `leaf` gives.
    command = (stacks, "descend", str(depth))
    plain, _ = hits(command, [place(stacks, "leaf")], 32768)
    plain_slots = [int(line.split()[3], 16) for line in capfd.readouterr().out.splitlines()]
    probed, capture = hits(command, [place(stacks, "leaf"), place(stacks, "descend", PlaceKind.RETURN)], 32768)
    slots = [int(line.split()[3], 16) for line in capfd.readouterr().out.splitlines()]
    assert len(slots) == len(plain_slots) == depth + 1
    at_leaf = next(hit for hit in probed if hit.places == (0,))
    assert [word(at_leaf, slot) - at_leaf.registers[16] for slot in slots] == [
        word(plain[0], slot) - plain[0].registers[16] for slot in plain_slots
    ]
    assert capture.trampolines.replaced > depth
    assert capture.trampolines.unknown == 0
    returns = [hit for hit in probed if hit.places == (1,)]
    assert [hit.registers[0] for hit in returns] == list(range(1, depth + 2))
    assert [hit.registers[7] - 8 for hit in returns] == slots[::-1]


def test_return_and_entry_at_one_place(stacks: str, place: Place) -> None:
    both = [place(stacks, "descend"), place(stacks, "descend", PlaceKind.RETURN)]
    found, capture = hits((stacks, "descend", "6"), both, 8192)
    entries = [hit for hit in found if hit.places == (0,)]
    assert [hit.registers[5] for hit in entries] == [6, 5, 4, 3, 2, 1, 0]
    true_callers = {word(hit, hit.registers[7]) for hit in entries}
    returns = [hit for hit in found if hit.places == (1,)]
    assert {hit.registers[16] for hit in returns} == true_callers, "a return lands where the entry's slot said"
    assert capture.trampolines.unknown == 0


def test_a_tail_call_between_return_probed_functions(build: Callable[..., str], place: Place) -> None:
    program = build("tails", STACKS, "-fno-ipa-cp", "-fno-ipa-icf", "-fno-ipa-ra")
    names = ["chain", "chained"]
    plain, _ = hits((program, "chain"), [place(program, "leaf")], 8192)
    places = [place(program, "leaf"), *(place(program, name, PlaceKind.RETURN) for name in names)]
    found, capture = hits((program, "chain"), places, 8192)
    at_leaf = next(hit for hit in found if hit.places == (0,))
    returns = [hit for hit in found if hit.places != (0,)]
    assert {hit.places for hit in returns} == {(1,), (2,)}
    assert len({(hit.registers[16], hit.registers[7]) for hit in returns}) == 1, "both return at one place"
    slot = returns[0].registers[7] - 8
    assert word(at_leaf, slot) == returns[0].registers[16]
    same = slot - at_leaf.registers[7] + plain[0].registers[7]
    assert word(plain[0], same) - plain[0].registers[16] == word(at_leaf, slot) - at_leaf.registers[16]
    assert capture.trampolines.unknown == 0


def test_a_forked_child_inherits_the_hidden_return_addresses(build: Callable[..., str], place: Place) -> None:
    program = build("inherit", INHERIT)
    found, capture = hits((program,), [place(program, "leaf"), place(program, "outer", PlaceKind.RETURN)], 8192)
    leaves = [hit for hit in found if hit.places == (0,)]
    returns = [hit for hit in found if hit.places == (1,)]
    assert len({hit.pid for hit in leaves}) == 2
    assert {hit.pid for hit in returns} == {hit.pid for hit in leaves}
    for hit in leaves:
        back = next(other for other in returns if other.pid == hit.pid)
        assert word(hit, back.registers[7] - 8) == back.registers[16]
    assert capture.trampolines.unknown == 0
