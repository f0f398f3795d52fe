"""The part of the kernel's list of symbols that a capture keeps names its addresses as the whole list does."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from relay_reader.capture import MappingAdded
from unwind.kallsyms import Kallsyms
from unwind.kernel import kept_kernel
from unwind.kernel.kept_kernel import KeptKernel, RunningKernelLists
from unwind.trace import TraceFrame


class _NoOther:
    """What is asked where the capture keeps no list."""

    def apply(self, event: object) -> None:
        assert isinstance(event, MappingAdded)

    def frames(self, chain: tuple[int, ...]) -> list[TraceFrame]:
        return [TraceFrame("kernel", address, "[other]") for address in chain]

    def all_problems(self) -> list[str]:
        return []


def _listed() -> str:
    """A list with what real ones have: several symbols at a place, data, modules behind, unsorted among themselves."""
    chance = random.Random(7)
    lines, address = [], 0xFFFFFFFF81000000
    lines += [f"{address:016x} T _stext", f"{address:016x} T _text"]
    for number in range(3000):
        lines.append(f"{address:016x} {chance.choice('tTwWdDr')} symbol_{chance.randrange(2500)}")
        if chance.random() < 0.9:
            address += chance.choice((16, 64, 4096, 70_000))
        if number % 50 == 0:
            lines.append(f"{address:016x} t static_function")
    lines.append(f"{address:016x} T _etext")
    for module in range(5):
        start = 0xFFFFFFFFC0000000 + 0x100000 * (7 * module % 5)
        lines += [
            f"{start + 64 * chance.randrange(900):016x} t m{module}_{each}\t[module_{module}]" for each in range(40)
        ]
    return "\n".join(lines) + "\n"


def _kept(lists: dict[str, bytes]) -> KeptKernel:
    return KeptKernel(lambda: lists, _NoOther(), is_running=False, build_id=None, vmlinux=None, module_folders=())


def test_a_part_of_the_list_names_addresses_as_the_whole_one_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kept_kernel, "_MANY", 10)
    text = _listed()
    whole = Kallsyms(text)
    chance = random.Random(8)
    starts = [int(line[:16], 16) for line in text.splitlines()]
    chains = [tuple(chance.choice(starts) + chance.choice((0, 1, 5, 40, 9000)) for _ in range(6)) for _ in range(60)]
    running = RunningKernelLists(text.encode())
    lists: dict[str, bytes] = {}
    for chain in chains:
        if running.need(chain):
            lists.update(running.take())
    lists.update(running.take())
    assert 1 < len([name for name in lists if name.startswith("kallsyms")]) < len(chains)
    kept = _kept({**lists, "modules": b"", "sections": b"{}"})
    named = 0
    for chain in chains:
        for index, (address, frame) in enumerate(zip(chain, kept.frames(chain), strict=True)):
            expected = whole.find(address - (index > 0))
            assert (frame.function, frame.offset) == (
                (expected.name, expected.offset + (index > 0)) if expected else (None, None)
            ), hex(address)
            assert frame.module == ((expected.module or "[kernel]") if expected else frame.module)
            named += expected is not None
    assert named > 100
    assert sum(len(content) for name, content in lists.items() if name.startswith("kallsyms")) < len(text) // 2


def test_a_list_that_cannot_be_read_gives_no_names(tmp_path: Path) -> None:
    running = RunningKernelLists(b"")
    assert running.need((0xFFFFFFFF81000010,))
    lists = dict(running.take())
    (frame,) = _kept(lists).frames((0xFFFFFFFF81000010,))
    assert frame.function is None and frame.address == 0xFFFFFFFF81000010
    (frame,) = _kept({}).frames((5,))
    assert frame.module == "[other]"
