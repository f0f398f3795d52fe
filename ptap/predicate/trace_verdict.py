"""What a predicate says of a finished trace, by the names that the trace shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase, translate
from functools import lru_cache
from os.path import basename

from ptap.predicate.expression import Caller, CommIs, InModule, Measured, Predicate, Term, UserCaller
from ptap.predicate.knowledge import Knowledge
from ptap.predicate.verdict import any_of, compared, verdict_of, verdict_on
from relay_reader.predicate_layout import Measure, Side, Verdict
from unwind.symbolize.function_index import name_matcher
from unwind.symbolize.function_name import without_parameters, without_template_arguments
from unwind.symbolize.function_search import path_matches
from unwind.trace import Trace, TraceFrame

_WILDCARDS = frozenset("*?[")
_KERNEL = "kernel"


def trace_verdict(predicate: Predicate, trace: Trace, knowledge: Knowledge) -> Verdict:
    """Whether the trace is wanted; UNKNOWN where frames that are missing or have no names could tell."""
    return verdict_on(predicate, _TraceTerms(trace, knowledge).verdict)


class _TraceTerms:
    """The terms of a predicate on one trace."""

    def __init__(self, trace: Trace, knowledge: Knowledge) -> None:
        self._trace = trace
        self._knowledge = knowledge

    def verdict(self, term: Term) -> Verdict:
        """Of one term."""
        trace = self._trace
        if isinstance(term, Caller):
            return self._direct_caller(term) if term.direct else self._caller(term)
        if isinstance(term, UserCaller):
            return self._user_caller(term)
        if isinstance(term, InModule):
            whole = self._knowledge.is_whole(Side.BOTH)
            return any_of((verdict_of(in_module(frame, term.module)) for frame in trace.frames), whole)
        if isinstance(term, Measured):
            return self._measured(term)
        assert isinstance(term, CommIs)
        return verdict_of(trace.comm == term.name)

    def _own_side(self) -> str:
        """Where the innermost frame is."""
        return self._trace.frames[0].space if self._trace.frames else "user"

    def _caller(self, term: Caller) -> Verdict:
        return self._above(self._own_side(), term.limit, lambda frame: _is_function(frame, term.function, term.file))

    def _direct_caller(self, term: Caller) -> Verdict:
        frames = self._trace.frames
        if self._knowledge.above >= len(frames):
            side = Side.KERNEL if self._own_side() == _KERNEL else Side.BOTH
            return verdict_of(False) if self._knowledge.is_whole(side) else Verdict.UNKNOWN
        frame = frames[self._knowledge.above]
        if frame.space != self._own_side():
            return verdict_of(False) if self._knowledge.is_whole(Side.KERNEL) else Verdict.UNKNOWN
        return _is_function(frame, term.function, term.file)

    def _user_caller(self, term: UserCaller) -> Verdict:
        def is_caller(frame: TraceFrame) -> Verdict:
            if term.module is not None and not in_module(frame, term.module):
                return Verdict.FALSE
            return _is_function(frame, term.function, term.file)

        return self._above("user", term.limit, is_caller)

    def _above(self, space: str, limit: int | None, is_wanted: Callable[[TraceFrame], Verdict]) -> Verdict:
        """Whether a frame of `space` above the probed one is wanted, of the `limit` nearest ones where that is given.

        Behind frames that are missing it is farther out than it looks.
        """
        kernel_whole = self._knowledge.is_whole(Side.KERNEL)
        found = []
        known = 0  # what is missing of the space is farther out than this
        for distance, frame in self._with_distance():
            certain = kernel_whole or frame.space == _KERNEL
            known = distance if frame.space in (space, _KERNEL) else known
            if limit is not None and distance > limit:
                break
            if frame.space == space:
                verdict = is_wanted(frame)
                far = verdict is Verdict.TRUE and limit is not None and not certain
                found.append(Verdict.UNKNOWN if far else verdict)
        side = Side.KERNEL if space == _KERNEL else Side.USER
        return any_of(found, (limit is not None and known >= limit) or self._knowledge.is_whole(side))

    def _with_distance(self) -> Iterator[tuple[int, TraceFrame]]:
        """The frames above the probed function, with how many real frames above the probed one they are."""
        distance = self._knowledge.distance
        for index, frame in enumerate(self._trace.frames):
            if index >= self._knowledge.above:
                yield distance, frame
            distance += not frame.inlined

    def _measured(self, term: Measured) -> Verdict:
        trace = self._trace
        if term.measure in (Measure.PID, Measure.TID):
            number = trace.pid if term.measure is Measure.PID else trace.tid
            return compared(number, True, term.comparison, term.value)
        side = {Measure.KERNEL_DEPTH: Side.KERNEL, Measure.USER_DEPTH: Side.USER}.get(term.measure, Side.BOTH)
        spaces = [space for space, each in (("kernel", Side.KERNEL), ("user", Side.USER)) if each & side]
        depth = sum(not frame.inlined and frame.space in spaces for frame in trace.frames)
        return compared(depth, self._knowledge.is_whole(side), term.comparison, term.value)


def _is_function(frame: TraceFrame, pattern: str, file: str | None) -> Verdict:
    """Whether the frame's function is meant; UNKNOWN for one without a name."""
    if frame.function is None:
        return Verdict.UNKNOWN
    if not _name_matches(pattern, frame.function):
        return Verdict.FALSE
    if file is not None and frame.file is None:
        return Verdict.UNKNOWN
    return verdict_of(file is None or path_matches(str(frame.file), file))


@lru_cache(maxsize=65536)
def _name_matches(pattern: str, name: str) -> bool:
    """As name_matcher, of a name that is readable already."""
    bare = without_parameters(name)
    whole = re.compile(translate(pattern)).match
    return name_matcher(pattern)(name) or bool(whole(bare) or whole(without_template_arguments(bare)))


def in_module(frame: TraceFrame, pattern: str) -> bool:
    """Whether the frame's file is meant by `pattern`."""
    return frame.module is not None and module_matches(frame.module, pattern)


@lru_cache(maxsize=65536)
def module_matches(module: str, pattern: str) -> bool:
    """Whether `pattern` means the file, or the kernel module, that a trace calls `module`.

    The path or its last parts, as a wildcard or not; of a library also what stands before its version; of a kernel
    module its name, in which `-` and `_` are the same. The kernel itself is `[kernel]`, `kernel` or `vmlinux`.
    """
    if module.startswith("["):
        names = {"kernel", "vmlinux"} if module == "[kernel]" else {module[1:-1]}
        return pattern in (module, *names) or any(fnmatchcase(each, pattern.replace("-", "_")) for each in names)
    if "/" not in module and "-" in pattern and module == pattern.replace("-", "_"):
        return True
    if path_matches(module, pattern):
        return True
    return not _WILDCARDS & set(pattern) and ".so" in pattern and basename(module).startswith(pattern + ".")
