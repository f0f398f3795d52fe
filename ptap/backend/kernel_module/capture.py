"""The kernel module's back end: `KernelModuleCapture`, a LiveCapture.

perf events start and follow the target (its processes, their mappings and names) and the module records the hits; one
thread drains both, and they are merged by time. The module follows the target itself and passes over the hits of all
others; those of a command's process before its exec are left out here. It is told of a process's mappings, to walk its
user stack at the probe, once a hit says that it was not; until then a hit has a piece of that stack as it is, which is
walked here by the mappings that perf tells.

Where nobody waits for the events, records are kept as they are until the capture has ended, as those of perf events.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ptap.backend.kernel_module.followed_threads import FollowedThreads
from ptap.backend.kernel_module.module_ring import MAGIC, ModuleRing
from ptap.backend.kernel_module.target_spaces import TargetSpaces
from ptap.backend.live_capture import CaptureLimits, Postponement, Target
from ptap.backend.perf_events.capture import PerfCapture
from ptap.backend.perf_events.ring_reader import RecordRing
from ptap_target.kernel_module import FILES, KernelModule
from ptap_target.module_sections import placements
from ptap_target.session_folder import Message, SessionError, SessionFolder
from ptap_target.space_messages import target as target_message
from relay_reader import record_layout as layout
from relay_reader.capture import Event, RecordsLost, Sample, ThreadNamed
from relay_reader.module_capture import RecordStream
from relay_reader.module_records import record_kind
from relay_reader.perf_record import RecordDecoder
from relay_reader.record_layout import HitFlag

_NO_STACK = 8
"""Bytes of stack with perf's samples, of which there are none."""
_DROPPED = struct.Struct("<Q")


class KernelModuleCapture(PerfCapture):
    """Hits of the session's probes in a command, in running processes or everywhere.

    `Sample.places` has the probe's number. `note` gets what only those want to know who look closely.
    """

    name = "module"

    def __init__(
        self,
        target: Target,
        session: SessionFolder,
        ring_bytes: int,
        note: Callable[[str], None] = lambda _: None,
        postponement: Postponement | None = None,
    ) -> None:
        super().__init__(target, (), CaptureLimits(_NO_STACK, postponement=postponement))
        self._note = note
        self._session = session
        self._ring_bytes = ring_bytes
        self._module: KernelModule | None = None
        self._module_rings: list[ModuleRing] = []
        self._follower: TargetSpaces | None = None
        self._records = RecordStream(FILES)
        self._followed = FollowedThreads()
        """As of the events that were given."""
        self._running = FollowedThreads() if postponement is not None else self._followed
        """As of the records that were read."""
        self._dropped: dict[int, int] = {}
        """By CPU, as of the records that were read."""
        self._of_others = 0
        self._hits = 0
        self._walked_at_probe = 0
        self._walked_here = 0
        self._left: list[str] = []
        """What could not be done or undone."""

    def _prepare(self) -> None:
        """Load the module and tell it the target: what that starts from now on is followed. Raises SessionError."""
        self._session.check_kernel()
        self._session.check_programs()
        module = KernelModule(self._session.module)
        module.__enter__()
        self._module = module
        for message in self._session.messages[:-1]:
            module.send(message)
        for pid in self._told_targets():
            module.send(Message(f"process {pid}", target_message(pid)))

    def _told_targets(self) -> Sequence[int]:
        """The processes whose hits alone the module is to record, with what they start; none for all."""
        if self._target.everything:
            return ()
        return (self.child_pid,) if self.child_pid is not None else self._target.pids

    def _more_rings(self) -> Sequence[RecordRing]:
        """Start the probes. Raises SessionError."""
        module = self._module
        assert module is not None
        for message in [*placements(self._session), self._session.messages[-1]]:
            module.send(message)
        self._follower = TargetSpaces(self._running, self._session, self._note)
        for path, file in module.records():
            cpu = int(path.name.removeprefix("cpu"))
            self._module_rings.append(ModuleRing(file, cpu, self._ring_bytes, self._follower.watch))
        return self._module_rings

    def events(self) -> Iterator[Event]:
        """Events in time order, as LiveCapture says. Raises ModuleCaptureError and SessionError for damage."""
        assert self._reader is not None and self._decoder is not None
        for event in self._initial:
            self._followed.apply(event)
            self._running.apply(event)
            yield event
        records = self._reader.records() if self._postponement is None else self._kept_records(self._postponement)
        for item in records:
            if isinstance(item, RecordsLost):
                yield item
            elif item[2].startswith(MAGIC):
                yield from self._of_target(item[2])
            else:
                told = self._event(item[2], item[1])
                if told is not None:
                    self._followed.apply(told)
                    yield told
        yield from self._end()

    def _urgent(self, record: bytes, cpu: int, decoder: RecordDecoder, postponement: Postponement) -> Event | None:
        """What cannot wait of a record of perf; of the module's the hits and what was dropped are counted."""
        if not record.startswith(MAGIC):
            event = super()._urgent(record, cpu, decoder, postponement)
            if event is not None:
                self._running.apply(event)
            return event
        if record_kind(memoryview(record)) == layout.RECORD_KIND_HIT and len(record) >= layout.HIT_SIZE:
            postponement.samples += 1
            (dropped,) = _DROPPED.unpack_from(record, layout.HIT_DROPPED)
            postponement.lost += dropped - self._dropped.get(cpu, 0)
            self._dropped[cpu] = dropped
        return None

    def _of_target(self, record: bytes) -> Iterator[Event]:
        """What a record of the module tells of the target's own processes."""
        for event in self._records.decode(record):
            if isinstance(event, (Sample, ThreadNamed)) and event.pid not in self._followed:
                self._of_others += isinstance(event, Sample)
                continue
            if isinstance(event, Sample):
                self._hits += 1
                if event.user_stack is not None:
                    copied = bool(event.user_stack.flags & HitFlag.USER_FLAT)
                    self._walked_here += copied
                    self._walked_at_probe += not copied
            yield event

    def _disarm(self) -> None:
        # Only then is there an end to what is to be read.
        if self._module is not None:
            try:
                self._module.send(self._session.stop)
            except (SessionError, OSError) as error:
                self._left.append(f"the probes could not be stopped before the last records were read: {error}")
        super()._disarm()

    def close(self) -> None:
        """Unload the module and let the target go on. Never raises; may be called twice."""
        super().close()
        for ring in self._module_rings:
            with suppress(OSError):
                ring.close()
        if self._follower is not None:
            self._left += sorted(self._follower.problems)
            self._follower.close()
            self._follower = None
        module, self._module = self._module, None
        if module is not None:
            self._left += _unfollowed(module)
            try:
                module.__exit__()
            except (SessionError, OSError) as error:
                self._left.append(str(error))

    def shortcomings(self) -> list[str]:
        """What this capture could not do, each as a line for the user; to be asked after `close`."""
        lines = super().shortcomings() + self._left
        for described in self._session.description.get("modules", ()):
            if described["problem"]:
                lines.append(f"stacks end at module {described['name']}: {described['problem']}")
        missed = sum(account.missed for account in self._records.accounts)
        if missed:
            lines.append(f"{missed} hits were left out by the kernel itself: they came while another probe was handled")
        refused = sum(account.unwanted for account in self._records.accounts)
        if refused:
            lines.append(f"{refused} hits were not recorded: at the probe --when did not hold")
        others = self._of_others + sum(account.others for account in self._records.accounts)
        if others and not self._hits:
            lines.append(f"{others} hits were of other processes than those that were to be traced")
        self._note(
            f"user stacks: {self._walked_at_probe} walked at the probe, {self._walked_here} afterwards; "
            f"{others} hits of other processes passed over"
        )
        return lines


def _unfollowed(module: KernelModule) -> list[str]:
    """What the module says of processes that it had no room for, which must still be loaded."""
    try:
        told = [line.split() for line in module.status()]
    except OSError:
        return []
    counts = [fields[1] for fields in told if fields[0] == "unfollowed"]
    return [f"{count} processes of the target were not traced: too many ran at once" for count in counts]


def leftover(files: Path = FILES) -> str | None:
    """What a run that was killed has left loaded, or a run that goes on has; None when nothing is."""
    if not files.exists():
        return None
    used = KernelModule.in_use()
    if used is None:
        return f"the kernel module is loaded ({files}): root sees whether a run uses it"
    if used:
        return f"the kernel module is loaded ({files}) and in use by a run"
    return f"the kernel module of a run that was killed is still loaded ({files}): the next run unloads it"
