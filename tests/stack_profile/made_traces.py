"""Traces made for the tests of profile formats: names of every kind, cut stacks, inlined calls, several threads."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from cfi_tables.layout import StopReason
from ptap.profile.profile_builder import ProfileBuilder
from ptap.profile.stack_profile import StackProfile, Thread
from unwind.trace import Trace, TraceFrame

BUILD_ID = "0123456789abcdef0123456789abcdef01234567"
PROGRAM, LIBRARY = "/opt/a program/prog", "/usr/lib/libx.so.1"
STRANGE = (
    "operator<<(std::ostream&, char const*)",
    "with space",
    'quote"d',
    "semi;colon",
    "back\\slash",
    "</script><b>",
    "<!--",
    "new\nline",
    b"not \xff utf-8".decode("utf-8", "surrogateescape"),
    "\U0001f525 fire",
    "",
)
"""Names that some format has to escape."""


def frame(name: str | None, **fields: object) -> TraceFrame:
    """A frame of the program, whose address follows from its name."""
    address = 0x400000 + sum((name or "").encode("utf-8", "surrogateescape")) * 16
    return TraceFrame("user", address, PROGRAM, BUILD_ID, name, **fields)  # type: ignore[arg-type]


def trace(frames: list[TraceFrame], **changes: object) -> Trace:
    fields: dict[str, object] = {
        "probe": None, "time_ns": 5_000_000, "cpu": 0, "pid": 10, "tid": 10, "comm": "prog", "weight": 1,
        "stop": StopReason.END_OF_STACK, **changes,
    }  # fmt: skip
    return Trace(frames=frames, **fields)  # type: ignore[arg-type]


def strange_traces() -> Iterator[Trace]:
    """One trace a name, in it as a function, a module, a file and a command; one without frames."""
    for number, name in enumerate(STRANGE, 1):
        named = TraceFrame("user", 0x1000 + number, f"/lib/{name}", None, name, 1, f"/src/{name}", number)
        yield trace([named, frame("main")], comm=name[:15], weight=number, time_ns=number * 1_000_000)
    yield trace([])


def random_traces(count: int, seed: int = 1) -> Iterator[Trace]:
    """Stacks of several threads with kernel frames, inlined calls, recursion, frames without a name, cut ones."""
    chosen = random.Random(seed)
    for number in range(count):
        depth = chosen.randrange(1, 12)
        names = [f"level{min(at, 8)}_{chosen.randrange(3)}" for at in range(depth)]
        frames = [
            frame(name, file=f"/src/{name}.c", line=chosen.randrange(1, 5), inlined=at > 1 and chosen.random() < 0.3)
            for at, name in enumerate(names)
        ]
        if chosen.random() < 0.3:
            frames.append(TraceFrame("kernel", 0xFFFFFFFF81000000, "[kernel]", None, "sys_call", 4))
        if chosen.random() < 0.2:
            frames.insert(0, TraceFrame("user", 0x7000 + chosen.randrange(3), LIBRARY))
        stop = StopReason.END_OF_STACK if chosen.random() < 0.9 else StopReason.STACK_CUT
        pid = 10 + chosen.randrange(2)
        yield trace(
            frames[::-1],
            stop=stop,
            pid=pid,
            tid=pid + chosen.randrange(2) * 100,
            weight=chosen.randrange(1, 4),
            time_ns=number * 1_000_000,
        )


def profile_of(traces: Iterable[Trace]) -> StackProfile:
    builder = ProfileBuilder()
    for each in traces:
        builder.add(each)
    return builder.profile()


def weighed_stacks(profile: StackProfile) -> Iterator[tuple[Thread, list[str], int]]:
    """The thread, names (innermost first) and weight of each sample."""
    samples = profile.samples
    columns = (each.tolist() for each in (samples.threads, samples.stacks, samples.weights))
    for thread, stack, weight in zip(*columns, strict=True):
        yield profile.threads[thread], [profile.function_of(each).name for each in profile.path(stack)], weight
