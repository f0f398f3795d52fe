"""The locations and samples of a pprof message, encoded from the columns of a profile.

A location is a call that was no inlined one with those inlined there: its *chain*. Chains are numbered, each one has
the chain that its innermost call is inlined into; a stack is a chain and the stack that it was called from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cfi_tables.distinct_values import first_met, numbered_as_met
from cfi_tables.hot_loop import FlatArray, compiled_pays, hot_loop, run_hot
from cfi_tables.scalars import item
from ptap.profile.inline_levels import inline_levels
from ptap.profile.pprof_schema import field_tag
from ptap.profile.protobuf_columns import LONGEST, field_size, number_size, put_field, put_number
from ptap.profile.reached_stacks import ReachedStacks
from ptap.profile.sample_columns import added_up
from ptap.profile.stack_profile import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ptap.profile.stack_profile import StackProfile

Bytes = NDArray[np.uint8]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]

_LOCATION, _SAMPLE = field_tag("Profile", "location"), field_tag("Profile", "sample")
_ID, _MAPPING = field_tag("Location", "id"), field_tag("Location", "mapping_id")
_ADDRESS, _LINE = field_tag("Location", "address"), field_tag("Location", "line")
_FUNCTION, _NUMBER, _COLUMN = (field_tag("Line", name) for name in ("function_id", "line", "column"))
_LOCATIONS, _VALUES = field_tag("Sample", "location_id"), field_tag("Sample", "value")

_LINE_BYTES = 2 + 3 * (1 + LONGEST)
_LOCATION_BYTES = 1 + LONGEST + 3 * (1 + LONGEST)
_SAMPLE_BYTES = 3 * (1 + LONGEST) + 2 * LONGEST
"""At most: without the lines of a location, and the locations and labels of a sample."""
_SECONDS_A_STACK = 2e-6
"""In plain Python."""
_LARGEST = (1 << 63) - 1


@hot_loop
def measure_paths(callers: FlatArray, locations: FlatArray, sizes: FlatArray) -> None:
    """The bytes (int64) of each stack's locations (int32), from its own to the outermost one."""
    for stack in range(len(callers)):
        caller = item(callers, stack)
        sizes[stack] = number_size(item(locations, stack)) + (item(sizes, caller) if caller >= 0 else 0)


@hot_loop
def put_samples(
    stacks: FlatArray,
    threads: FlatArray,
    counts: FlatArray,
    weights: FlatArray,
    callers: FlatArray,
    locations: FlatArray,
    sizes: FlatArray,
    labels: FlatArray,
    label_ends: FlatArray,
    out: FlatArray,
) -> int:
    """Write messages Sample, one for each stack and thread (int32), with their counts and weights (int64).

    `callers`, `locations` (int32) and `sizes` (int64) are by stack; of each thread the encoded labels end at
    `label_ends` (int64) of `labels`. The bytes written.
    """
    at = 0
    for row in range(len(stacks)):
        stack, thread = item(stacks, row), item(threads, row)
        path = item(sizes, stack) if stack >= 0 else 0
        values = number_size(item(counts, row)) + number_size(item(weights, row))
        label = item(label_ends, thread - 1) if thread > 0 else 0
        last = item(label_ends, thread)
        out[at] = _SAMPLE
        at = put_number(out, at + 1, 2 + number_size(path) + path + number_size(values) + values + last - label)
        out[at] = _LOCATIONS
        at = put_number(out, at + 1, path)
        while stack >= 0:
            at = put_number(out, at, item(locations, stack))
            stack = item(callers, stack)
        out[at] = _VALUES
        at = put_number(out, at + 1, values)
        at = put_number(out, at, item(counts, row))
        at = put_number(out, at, item(weights, row))
        while label < last:
            out[at] = labels[label]
            at += 1
            label += 1
    return at


@hot_loop
def _line_size(functions: FlatArray, lines: FlatArray, columns: FlatArray, call: int) -> int:
    line = field_size(item(functions, call) + 1) + field_size(item(lines, call))
    return line + field_size(item(columns, call))


@hot_loop
def put_locations(
    chains: FlatArray,
    outer: FlatArray,
    calls: FlatArray,
    functions: FlatArray,
    lines: FlatArray,
    columns: FlatArray,
    addresses: FlatArray,
    mappings: FlatArray,
    out: FlatArray,
) -> int:
    """Write messages Location, numbered from 1, one for each of `chains` (int32).

    `outer` and `calls` (int32) are the columns of all chains; the next four are by call, the functions int32 and the
    others int64; `mappings` (int32) are by function. The bytes written.
    """
    at = 0
    for number in range(len(chains)):
        size, chain, call = 0, item(chains, number), 0
        while chain >= 0:
            call = item(calls, chain)
            line = _line_size(functions, lines, columns, call)
            size += 1 + number_size(line) + line
            chain = item(outer, chain)
        address, mapping = item(addresses, call), item(mappings, item(functions, call))
        size += field_size(number + 1) + field_size(mapping) + field_size(address)
        out[at] = _LOCATION
        at = put_number(out, at + 1, size)
        at = put_field(out, at, _ID, number + 1)
        at = put_field(out, at, _MAPPING, mapping)
        at = put_field(out, at, _ADDRESS, address)
        chain = item(chains, number)
        while chain >= 0:
            call = item(calls, chain)
            line = _line_size(functions, lines, columns, call)
            out[at] = _LINE
            at = put_number(out, at + 1, line)
            at = put_field(out, at, _FUNCTION, item(functions, call) + 1)
            at = put_field(out, at, _NUMBER, item(lines, call))
            at = put_field(out, at, _COLUMN, item(columns, call))
            chain = item(outer, chain)
    return at


@dataclass(slots=True)
class _Chains:
    """All chains of a profile: the first ones are its calls, each by itself."""

    outer: Int32s
    """What the innermost call is inlined into, or ROOT."""
    calls: Int32s
    """The innermost call."""
    depths: Int32s
    """How many calls there are around the innermost one."""
    of: Int32s
    """By stack: the chain that it ends in,"""
    callers: Int32s
    """and the stack that it was called from, or ROOT."""


def _chains(profile: StackProfile) -> _Chains:
    count = len(profile.calls)
    outer, calls = [np.full(count, ROOT, dtype=np.int32)], [np.arange(count, dtype=np.int32)]
    # With one element more, that of ROOT.
    of = np.append(profile.call_of, np.int32(ROOT))
    callers = np.append(profile.parents, np.int32(ROOT))
    for level in inline_levels(profile):
        around = profile.parents[level]
        keys = (of[around].astype(np.int64) + 1) * count + profile.call_of[level]
        distinct, which = np.unique(keys, return_inverse=True)
        of[level] = sum(map(len, calls)) + which
        callers[level] = callers[around]
        outer.append((distinct // count - 1).astype(np.int32))
        calls.append((distinct % count).astype(np.int32))
    depths = [np.full(len(each), depth, dtype=np.int32) for depth, each in enumerate(calls)]
    return _Chains(np.concatenate(outer), np.concatenate(calls), np.concatenate(depths), of[:-1], callers[:-1])


class PprofColumns:
    """What of a profile becomes locations and samples."""

    def __init__(self, profile: StackProfile) -> None:
        self._profile = profile
        self._chains = _chains(profile)
        self._compiled = compiled_pays(put_samples, len(profile.parents) * _SECONDS_A_STACK)
        used = np.zeros(len(self._chains.outer), dtype=np.bool_)
        used[self._chains.of[ReachedStacks(self._chains.callers).of(profile.samples.stacks)]] = True
        self._used = np.flatnonzero(used).astype(np.int32)
        """The chains that are locations, numbered from 1."""

    def functions(self) -> Int32s:
        """Of the outermost calls of all locations, each once: indices in the profile's, by which mappings are."""
        chains = self._used
        while (inner := self._chains.outer[chains]).max(initial=ROOT) >= 0:
            chains = np.where(inner >= 0, inner, chains)
        return first_met(self._profile.calls.functions[self._chains.calls[chains]])

    def locations(self, mappings: Int32s) -> Bytes:
        """The messages Location; `mappings` are by function."""
        calls, chains = self._profile.calls, self._chains
        lines = int(chains.depths[self._used].sum()) + len(self._used)
        out = np.empty(lines * _LINE_BYTES + len(self._used) * _LOCATION_BYTES, dtype=np.uint8)
        addresses = calls.addresses.view(np.int64)
        columns = (np.ascontiguousarray(each) for each in (calls.functions, calls.lines, calls.columns, addresses))
        written = run_hot(
            put_locations, self._compiled, self._used, chains.outer, chains.calls, *columns, mappings, out
        )
        return out[:written]

    def samples(self, labels: Sequence[bytes]) -> Bytes:
        """The messages Sample, those of equal stack and thread added up; `labels` are the encoded ones by thread."""
        chains = self._chains
        numbers = np.zeros(len(chains.outer), dtype=np.int32)
        numbers[self._used] = np.arange(1, len(self._used) + 1)
        locations = numbers[chains.of]
        sizes = np.zeros(len(locations), dtype=np.int64)
        run_hot(measure_paths, self._compiled, chains.callers, locations, sizes)
        stacks, threads, counts, weights = self._added_up()
        ends = np.cumsum([len(each) for each in labels], dtype=np.int64)
        label_bytes = np.frombuffer(bytearray().join(labels), dtype=np.uint8)
        longest = max(map(len, labels), default=0)
        out = np.empty(int(sizes[stacks].sum()) + len(stacks) * (_SAMPLE_BYTES + longest), dtype=np.uint8)
        columns = stacks, threads, counts, weights, chains.callers, locations, sizes, label_bytes, ends
        return out[: run_hot(put_samples, self._compiled, *columns, out)]

    def _added_up(self) -> tuple[Int32s, Int32s, Int64s, Int64s]:
        """Stacks, threads, counts and weights of the samples, as first met."""
        samples, width = self._profile.samples, max(len(self._profile.threads), 1)
        keys = samples.stacks.astype(np.int64) * width + samples.threads
        distinct, groups = numbered_as_met(keys)
        weights = added_up(groups, samples.weights, len(distinct))
        if weights.dtype == object:  # the format has no larger numbers
            weights = np.array([min(each, _LARGEST) for each in weights.tolist()], dtype=np.int64)
        stacks, threads = (each.astype(np.int32) for each in (distinct // width, distinct % width))
        return stacks, threads, np.bincount(groups, minlength=len(distinct)), weights
