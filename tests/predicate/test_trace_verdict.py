"""What a predicate says of a finished trace, and that the probe's program says the same of its addresses."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from program_twin import Stack, evaluate

from cfi_tables.layout import StopReason
from ptap.predicate.expression import UserCaller, terms
from ptap.predicate.kernel_functions import FunctionCode
from ptap.predicate.knowledge import Knowledge
from ptap.predicate.parse import parse_predicate
from ptap.predicate.program import compile_predicate
from ptap.predicate.trace_verdict import module_matches, trace_verdict
from relay_reader.predicate_layout import FILE_KERNEL, FILE_UNKNOWN, Side, Verdict
from unwind.trace import Trace, TraceFrame

# A kernel of six functions of 10 bytes; in the last three of each f, g is inlined, and h in the last of those.
_NAMES = ("fa", "fb", "fc", "fd", "fe", "ff")


def _chain(address: int) -> list[str]:
    """The functions at an address, innermost first."""
    owner, within = _NAMES[address // 10], address % 10
    return ["h", "g", owner] if within == 9 else ["g", owner] if within >= 7 else [owner]


class _Functions:
    """Where they are, found by asking of each address: of the kernel, or of a file that has the same code."""

    known = (0, 10 * len(_NAMES))

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.build_id = path.encode()

    def find(self, pattern: str, file: str | None) -> FunctionCode | None:
        chains = [[fnmatchcase(name, pattern) for name in _chain(address)] for address in range(*self.known)]
        return FunctionCode(_runs(list(map(any, chains))), _runs([chain[0] for chain in chains]))

    def nearest(self, pattern: str) -> list[str]:
        return []


def _runs(wanted: list[bool]) -> list[tuple[int, int]]:
    edges = [index for index in range(len(wanted) + 1) if (wanted + [False])[index] != ([False] + wanted)[index]]
    return list(zip(edges[::2], edges[1::2], strict=True))


_FILES = ("/usr/lib/libc.so.6", "/opt/prog", "/opt/other")
"""The last one's table the probe does not have."""


def _trace(addresses: list[int], user: list[tuple[int, int]]) -> Trace:
    frames = []
    for space, module, address in [("kernel", "[kernel]", address) for address in addresses] + [
        ("user", _FILES[file], address) for address, file in user
    ]:
        chain = _chain(address)
        frames += [TraceFrame(space, address, module, function=name, inlined=name != chain[-1]) for name in chain]
    return Trace("probe", 0, 0, 5, 6, "comm", 1, StopReason.END_OF_STACK, frames)


_functions = st.sampled_from([*_NAMES, "g", "h", "f*", "nothing"])
_modules = st.sampled_from(["libc.so.6", "prog", "opt/*", "none"])
_limits = st.sampled_from(["", ", 1", ", 2", ", 3"])
_terms = st.one_of(
    st.builds('caller("{}"{})'.format, _functions, _limits),
    st.builds('direct_caller("{}")'.format, _functions),
    st.builds('user_caller("{}", "{}"{})'.format, _modules, _functions, _limits),
    st.builds('user_caller("{}"{})'.format, _functions, _limits),
    st.builds('called_from("{}")'.format, st.sampled_from(["libc.so.6", "prog", "/opt/*", "kernel", "none.so"])),
    st.builds("{}() {} {}".format, st.sampled_from(["depth", "kernel_depth", "user_depth", "pid", "tid"]),
              st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), st.integers(0, 8)),
    st.builds('comm() == "{}"'.format, st.sampled_from(["comm", "other"])),
)  # fmt: skip
_texts = st.recursive(
    _terms,
    lambda part: st.one_of(
        st.builds("not ({})".format, part),
        st.builds("({}) and ({})".format, part, part),
        st.builds("({}) or ({})".format, part, part),
    ),
    max_leaves=5,
)


@settings(max_examples=500, deadline=None)
@given(
    text=_texts,
    addresses=st.lists(st.integers(0, 10 * len(_NAMES) - 1), min_size=1, max_size=6),
    user=st.lists(st.tuples(st.integers(0, 10 * len(_NAMES) - 1), st.integers(0, 2)), max_size=4),
    whole=st.sampled_from([Side.KERNEL, Side.BOTH, None]),
    is_return=st.booleans(),
)
def test_names_and_addresses_tell_the_same(text, addresses, user, whole, is_return):
    """By the trace's names, and by the program for the probe; both know which frames are missing.

    The probe may know less: of files whose tables it does not have, and of functions without a file.
    """
    predicate = parse_predicate(text)
    if not is_return:
        addresses[0] -= addresses[0] % 10  # a function's first instruction
    files = [_Functions(path) for path in _FILES[:-1]]
    program = compile_predicate(predicate, _Functions(), files=files).program
    frames = [(address, FILE_KERNEL) for address in addresses]
    frames += [(address, file + 1 if file < len(files) else FILE_UNKNOWN) for address, file in user]
    stack = Stack(frames, len(addresses), int(whole or 0), 0 if is_return else 1, 5, 6, b"comm")
    knowledge = Knowledge(whole, 0, 1) if is_return else Knowledge(whole, 1)
    at_probe, afterwards = evaluate(program, stack), trace_verdict(predicate, _trace(addresses, user), knowledge)
    callers = [term.module for term in terms(predicate) if isinstance(term, UserCaller)]
    is_told = all(module and any(module_matches(file.path, module) for file in files) for module in callers)
    knows_less = not is_told or any(file == len(files) for _, file in user)
    assert at_probe == afterwards or (knows_less and at_probe is Verdict.UNKNOWN)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('caller("fa") and user_caller("prog", "f*")', None),
        ('caller("typo")', "no function typo: only in modules"),
        ('user_caller("prog", "typo@a.c", 2)', "prog has no function typo@a.c"),
        ('user_caller("libssl.so.3", "SSL_read")', "knows no program or library libssl.so.3"),
    ],
)
def test_what_is_not_there_is_told(text, told):
    compiled = compile_predicate(parse_predicate(text), _Functions(), files=[_Functions(path) for path in _FILES])
    assert len(compiled.notes) == (told is not None)
    assert told is None or told in compiled.notes[0]


def _user_trace(*frames: tuple[str | None, str | None, bool]) -> Trace:
    made = [TraceFrame("user", 1, module, function=name, inlined=inlined) for module, name, inlined in frames]
    return Trace("probe", 0, 0, 5, 6, "comm", 1, StopReason.END_OF_STACK, made)


_PROGRAM = _user_trace(
    ("/opt/prog", "work", False),
    ("/opt/prog", "inlined", True),
    ("/opt/prog", "ns::owner<int>(char const*)", False),
    ("/lib/libz.so.1.2.13", "inflate", False),
    ("/opt/prog", None, False),
    ("/opt/prog", "main", False),
)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('caller("work")', Verdict.UNKNOWN),  # one frame has no name
        ('caller("work", 2)', Verdict.FALSE),
        ('caller("inlined", 1)', Verdict.TRUE),
        ('caller("ns::owner")', Verdict.TRUE),
        ('caller("ns::owner<int>")', Verdict.TRUE),
        ('caller("owner")', Verdict.UNKNOWN),
        ('caller("inflate", 1)', Verdict.FALSE),
        ('caller("inflate", 2)', Verdict.TRUE),
        ('direct_caller("inlined")', Verdict.TRUE),
        ('direct_caller("ns::owner*")', Verdict.FALSE),
        ('user_caller("libz.so.1", "inflate")', Verdict.TRUE),
        ('user_caller("libz.so.1", "main")', Verdict.FALSE),
        ('user_caller("prog", "none", 2)', Verdict.FALSE),
        ('user_caller("prog", "none")', Verdict.UNKNOWN),
        ('called_from("libz.so.1")', Verdict.TRUE),
        ('called_from("/lib/libz*")', Verdict.TRUE),
        ('called_from("libz")', Verdict.FALSE),
        ('called_from("opt/prog")', Verdict.TRUE),
        ('called_from("libm.so.6")', Verdict.FALSE),
        ("depth() == 5", Verdict.TRUE),
        ("kernel_depth() == 0 and user_depth() == 5", Verdict.TRUE),
        ('comm() == "comm" and pid() == 5 and tid() == 6', Verdict.TRUE),
    ],
)
def test_terms_on_a_users_trace(text, verdict):
    assert trace_verdict(parse_predicate(text), _PROGRAM, Knowledge(Side.BOTH)) is verdict


@pytest.mark.parametrize(
    ("module", "pattern", "meant"),
    [
        ("[kernel]", "vmlinux", True),
        ("[kernel]", "ext4", False),
        ("[ext4]", "ext4", True),
        ("snd_hda_intel", "snd-hda-intel", True),
        ("/usr/lib/libssl.so.3", "libssl.so.3", True),
        ("/usr/lib/libssl.so.3", "libssl.so", True),
        ("/usr/lib/libssl.so.3", "libssl", False),
        ("/usr/lib/libssl.so.3", "/usr/lib/libssl.so.3", True),
        ("/usr/lib/libssl.so.33", "libssl.so.3", False),
        ("/opt/prog.old", "prog", False),
    ],
)
def test_how_files_are_called(module, pattern, meant):
    assert module_matches(module, pattern) is meant


def test_frames_that_are_missing_leave_it_open():
    trace = _user_trace(("/opt/prog", "work", False), ("/opt/prog", "step", False))
    cut = Knowledge(Side.KERNEL)
    for text, verdict in (
        ('caller("main")', Verdict.UNKNOWN),
        ('caller("step")', Verdict.TRUE),
        ('caller("main", 1)', Verdict.FALSE),
        ("depth() > 1", Verdict.TRUE),
        ("depth() < 2", Verdict.FALSE),
        ("depth() == 2", Verdict.UNKNOWN),
        ('called_from("libc.so.6")', Verdict.UNKNOWN),
        ('not caller("main") and depth() < 2', Verdict.FALSE),
    ):
        assert trace_verdict(parse_predicate(text), trace, cut) is verdict, text
