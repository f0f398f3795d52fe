"""Programs compiled for the tests, probe places found by readelf, and a capture run to its end."""

import collections
import os
import re
import signal
import subprocess
from dataclasses import dataclass, field

import pytest

from ptap.backend.live_capture import CaptureLimits, PlaceKind, ProbePlace, Target
from ptap.backend.ptrace.capture import PtraceCapture
from relay_reader.capture import Sample

ENTRY, RETURN = PlaceKind.ENTRY, PlaceKind.RETURN


@dataclass
class Outcome:
    """What a capture gave."""

    capture: PtraceCapture
    events: list = field(default_factory=list)
    hits: collections.Counter = field(default_factory=collections.Counter)
    samples: list = field(default_factory=list)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def exit_code(self):
        return os.waitstatus_to_exitcode(self.capture.exit_status)


def file_offset(path, function):
    """Where a function's first byte is in the file, as readelf tells."""
    symbols = subprocess.run(["readelf", "-sW", path], capture_output=True, text=True, check=True).stdout
    row = next(r.split() for r in symbols.splitlines() if re.search(rf"\b{function}$", r) and " FUNC " in r)
    address = int(row[1], 16)
    headers = subprocess.run(["readelf", "-lW", path], capture_output=True, text=True, check=True).stdout
    for line in headers.splitlines():
        fields = line.split()
        if fields[:1] == ["LOAD"]:
            offset, start, size = int(fields[1], 16), int(fields[2], 16), int(fields[4], 16)
            if start <= address < start + size:
                return address - start + offset
    raise AssertionError(f"{function} is in no segment of {path}")


@pytest.fixture
def place():
    def make(path, function, kind=ENTRY):
        real = os.path.realpath(path)
        return ProbePlace(real, file_offset(real, function), kind)

    return make


@pytest.fixture
def compile_c(tmp_path):
    def build(name, source, *flags):
        program = tmp_path / name
        (tmp_path / f"{name}.c").write_text(source)
        subprocess.run(
            ["gcc", "-O2", "-g", "-fomit-frame-pointer", "-o", program, tmp_path / f"{name}.c", *flags],
            check=True,
        )
        return str(program)

    return build


@pytest.fixture
def alarm():
    """A capture that hangs fails its test instead of the run."""

    def ring(number, frame):
        raise TimeoutError("the capture hangs")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def capture(alarm):
    captures = []

    def run(places, command=(), pids=(), at_event=None):
        tracer = PtraceCapture(Target(tuple(map(str, command)), tuple(pids)), places, CaptureLimits(user_stack=65528))
        captures.append(tracer)
        outcome = Outcome(tracer)
        tracer.start()
        for event in tracer.events():
            outcome.events.append(event)
            if isinstance(event, Sample):
                outcome.samples.append(event)
                outcome.hits.update(event.places)
            if at_event is not None:
                at_event(tracer, event)
        tracer.close()
        return outcome

    yield run
    for tracer in captures:
        tracer.close()
