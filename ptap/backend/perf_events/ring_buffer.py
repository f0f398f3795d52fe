"""One CPU's perf ring buffer, mapped and drained.

The layout is struct perf_event_mmap_page of linux/perf_event.h: a control page, then a power of two of data
pages. The kernel moves `data_head`, the reader `data_tail`; both count bytes since the start. x86-64 keeps loads
in order with loads and stores in order with stores, so that plain 8-byte accesses do.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
from collections.abc import Mapping
from typing import TypeAlias

from ptap.backend.live_capture import CaptureError
from ptap.backend.perf_events import event_attr
from relay_reader.perf_record import RECORD_SAMPLE, EventLayout, compact_sample

TimedRecord: TypeAlias = tuple[int, int, bytes]
"""Nanoseconds, CPU, and the record (samples compacted)."""

_HEAD_WORD = 1024 // 8
_TAIL_WORD = 1032 // 8
# Samples of BASE_SAMPLE begin with the words header (type: 32 bits, misc: 16, size: 16), identifier, ip, pid and
# tid, time. Other records end with the words pid and tid, time, cpu, identifier. All are multiples of 8 bytes.
_KIND = 0xFFFFFFFF
_IDENTIFIER = 1
_TIME = 4
_TRAILER_TIME = -3
_SHORTEST = 40
_U64 = struct.Struct("<Q")

_LARGEST = 64 << 20
_USUAL = 8 << 20
_SMALLEST = 64 << 10
_MEMORY_SHARE = 16


def ring_size(cpus: int, user_stack: int, hits: int = 1000) -> int:
    """Bytes of ring to try for on each of `cpus`: a power of two with room for about `hits` hits.

    Between 8 and 64 MiB, and all together at most 1/16 of the machine's memory. The kernel reserves `user_stack`
    bytes in the ring for each hit, however short the stack is.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    size = _LARGEST
    while size > _USUAL and size // 2 >= user_stack * hits:
        size //= 2
    while size > _SMALLEST and size * cpus > memory // _MEMORY_SHARE:
        size //= 2
    return size


class RingBuffer:
    """The ring of one CPU, owned by an event that is never enabled. Raises CaptureError."""

    def __init__(self, cpu: int, size: int) -> None:
        self.cpu = cpu
        self.fd, self._map, self.size = _open_and_map(cpu, size)
        self._view = memoryview(self._map)
        page = mmap.PAGESIZE
        self._control = self._view[:page].cast("Q")
        self._data = self._view[page : page + self.size]
        self._words = self._data.cast("Q")
        self.unreadable = 0
        """Records that did not fit their own layout."""
        self.skipped = 0
        """Samples that `drain` was told not to keep, since this was last set to 0."""

    def drain(self, layouts: Mapping[int, EventLayout], out: list[TimedRecord], *, keep_samples: bool) -> int:
        """Append the records that are there to `out`, in the order written, and free their room.

        Gives the bytes that they took in the ring. With `keep_samples` False samples are counted in `skipped`
        instead. This loop decides how many hits a second are caught, hence the words in place of structures.
        """
        head: int = self._control[_HEAD_WORD]
        tail = start = given_back = self._control[_TAIL_WORD]
        words, data, size, cpu = self._words, self._data, self.size, self.cpu
        mask = size - 1
        give_back_after = size >> 4
        append = out.append
        while tail < head:
            at = tail & mask
            word = at >> 3
            header = words[word]
            length = header >> 48
            if length < _SHORTEST:
                # Never written by the kernel; what follows cannot be found any more.
                self.unreadable += 1
                tail = head
                break
            tail += length
            if at + length > size:
                self._take_split(at, length, layouts, out, keep_samples)
            elif header & _KIND != RECORD_SAMPLE:
                append((words[word + (length >> 3) + _TRAILER_TIME], cpu, data[at : at + length].tobytes()))
            elif not keep_samples:
                self.skipped += 1
            else:
                layout = layouts.get(words[word + _IDENTIFIER])
                if layout is None:
                    self.unreadable += 1
                elif (stack := layout.stack_size_word) > 0 and words[word + layout.registers_abi_word]:
                    # The last word of the record tells how much of the reserved stack was filled.
                    used = words[word + (length >> 3) - 1] if words[word + stack] else 0
                    append((words[word + _TIME], cpu, data[at : at + 8 * stack + 8 + used].tobytes()))
                else:
                    self._take(data, at, length, layout, out)
            if tail - given_back > give_back_after:
                self._control[_TAIL_WORD] = given_back = tail
        self._control[_TAIL_WORD] = tail
        return tail - start

    def _take(
        self, buffer: memoryview | bytes, at: int, length: int, layout: EventLayout, out: list[TimedRecord]
    ) -> None:
        (time,) = _U64.unpack_from(buffer, at + 8 * _TIME)
        try:
            out.append((time, self.cpu, compact_sample(buffer, at, length, layout)))
        except struct.error:
            self.unreadable += 1

    def _take_split(
        self,
        at: int,
        length: int,
        layouts: Mapping[int, EventLayout],
        out: list[TimedRecord],
        keep_samples: bool,
    ) -> None:
        # A record that goes on at the start of the ring.
        record = b"".join((self._data[at:], self._data[: at + length - self.size]))
        if self._words[at >> 3] & _KIND != RECORD_SAMPLE:
            (time,) = _U64.unpack_from(record, length + 8 * _TRAILER_TIME)
            out.append((time, self.cpu, record))
            return
        layout = layouts.get(_U64.unpack_from(record, 8 * _IDENTIFIER)[0])
        if not keep_samples:
            self.skipped += 1
        elif layout is None:
            self.unreadable += 1
        else:
            self._take(record, 0, length, layout, out)

    def close(self) -> None:
        """Unmap the ring and close its event."""
        if self.fd < 0:
            return
        for view in (self._words, self._data, self._control, self._view):
            view.release()
        self._map.close()
        os.close(self.fd)
        self.fd = -1


def _open_and_map(cpu: int, size: int) -> tuple[int, mmap.mmap, int]:
    while True:
        try:
            fd = event_attr.open_event(event_attr.ring_owner(size // 8), -1, cpu)
        except OSError as error:
            raise CaptureError(perf_refusal(error)) from error
        try:
            return fd, mmap.mmap(fd, mmap.PAGESIZE + size), size
        except OSError as error:
            os.close(fd)
            if error.errno not in (errno.EPERM, errno.ENOMEM) or size <= _SMALLEST:
                raise CaptureError(
                    f"cannot map a perf ring of {size >> 10} KiB on CPU {cpu}: {error.strerror}: raise "
                    "kernel.perf_event_mlock_kb (`sysctl kernel.perf_event_mlock_kb=65536`) or run as root"
                ) from error
            size //= 2


def perf_refusal(error: OSError) -> str:
    """What refuses perf_event_open, the setting's value, and the command that allows it."""
    call = f"perf_event_open says {os.strerror(error.errno or 0)}"
    if error.errno in (errno.EPERM, errno.EACCES):
        value = _setting("perf_event_paranoid")
        return (
            f"{call} (kernel.perf_event_paranoid is {value}): run as root or with CAP_PERFMON, set it to -1 "
            "(`sysctl kernel.perf_event_paranoid=-1` as root), or in a container "
            "with `--cap-add PERFMON --cap-add SYS_ADMIN` and a seccomp profile that lets perf_event_open "
            "through; --backend ptrace needs none of it"
        )
    if error.errno == errno.ENOSYS:
        return f"{call}: this kernel has no perf events (CONFIG_PERF_EVENTS), use --backend ptrace"
    if error.errno == errno.EMFILE:
        return f"{call}: raise the limit of open files (`ulimit -n 1048576`) or probe fewer places or threads"
    return f"{call}; use --backend ptrace"


def frequency_refusal(frequency: int, error: OSError) -> str:
    """What refuses an event that samples so often, and what allows it."""
    limit = _setting("perf_event_max_sample_rate")
    if limit.isdecimal() and int(limit) < frequency:
        return (
            f"{frequency} samples a second are more than kernel.perf_event_max_sample_rate, {limit}, allows: ask for "
            f"fewer, or `sysctl kernel.perf_event_max_sample_rate={frequency}` as root"
        )
    return perf_refusal(error)


def _setting(name: str) -> str:
    """The value of the sysctl kernel.NAME."""
    try:
        with open(f"/proc/sys/kernel/{name}") as file:
            return file.read().strip()
    except OSError:
        return "unknown"
