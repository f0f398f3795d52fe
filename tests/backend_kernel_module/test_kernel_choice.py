"""Which back end kernel probes get, and what is said where none will do."""

from __future__ import annotations

import pytest

from ptap.backend import choice
from ptap.backend.choice import choose_kernel_back_end
from ptap.backend.kernel_module import availability
from ptap.backend.live_capture import CaptureError
from ptap.backend.perf_events import kernel_places
from ptap.backend.perf_events.extra_event import KernelProbeEvent
from ptap.backend.perf_events.kernel_places import KernelPlaces
from ptap.kernel_module.kernel_point import KernelPoint, parse_kernel_point
from ptap.probe.point import ProbePoint
from ptap.probe.resolve import ProbeNotFound
from ptap.trace_point import parse_trace_point, point_of_module

_POINT = 'kernel.function("vfs_read")'
_KALLSYMS = """ffffffff81000000 T _stext
ffffffff81001000 T vfs_read
ffffffff81002000 t do_open
ffffffff81003000 t do_open
ffffffff81004000 D vfs_data
ffffffffc0001000 t in_module	[kvm]
"""


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch):
    def set_back_ends(**reasons: str | None) -> None:
        monkeypatch.setattr(choice, "KERNEL_BACK_ENDS", {name: lambda why=why: why for name, why in reasons.items()})

    return set_back_ends


def test_the_module_is_preferred_and_perf_is_next(works):
    works(module=None, perf=None)
    assert choose_kernel_back_end("auto", _POINT) == ("module", None)
    works(module="no headers", perf=None)
    assert choose_kernel_back_end("auto", _POINT) == ("perf", "module: no headers")


def test_where_nothing_works_every_reason_is_told(works):
    works(module="no headers", perf="not allowed: run as root, or use --backend ptrace")
    with pytest.raises(CaptureError, match=r"module: no headers; perf: not allowed: run as root$"):
        choose_kernel_back_end("auto", _POINT)
    with pytest.raises(CaptureError, match="--backend module: no headers"):
        choose_kernel_back_end("module", _POINT)
    with pytest.raises(CaptureError, match="ptrace sees nothing of the kernel"):
        choose_kernel_back_end("ptrace", _POINT)


def test_points_are_told_apart_by_their_first_words():
    assert isinstance(parse_trace_point(_POINT, "auto"), KernelPoint)
    assert isinstance(parse_trace_point('process.function("kernel.function")', "auto"), ProbePoint)
    assert isinstance(parse_trace_point('kernel.trace("sched:sched_switch")', "auto"), ProbePoint)


@pytest.mark.parametrize("text", ['kernel.trace("sched:sched_switch")', "timer.profile(97)", "timer.profile"])
def test_events_of_perf_are_the_modules_too_where_that_is_taken(text):
    assert point_of_module(parse_trace_point(text, "auto")) == parse_trace_point(text, "module")


@pytest.mark.parametrize("text", [_POINT, 'process("/bin/true").function("main")'])
def test_other_points_are_the_same_by_all_back_ends(text):
    point = parse_trace_point(text, "auto")
    assert point_of_module(point) == point == parse_trace_point(text, "module")


@pytest.fixture
def places(tmp_path, monkeypatch: pytest.MonkeyPatch) -> KernelPlaces:
    listed = tmp_path / "kallsyms"
    listed.write_text(_KALLSYMS)
    monkeypatch.setattr(kernel_places, "_KALLSYMS", listed)
    monkeypatch.setattr("unwind.kernel.kernel_files.find_local_vmlinux", lambda looked_at, refused: None)
    return KernelPlaces()


def _events(places: KernelPlaces, text: str) -> list[KernelProbeEvent]:
    return places.events([parse_kernel_point(text)])


def test_a_name_that_the_kernel_has_once_is_enough(places):
    assert _events(places, _POINT) == [KernelProbeEvent(_POINT, "vfs_read", 0, False)]
    assert _events(places, f"{_POINT}.return") == [KernelProbeEvent(f"{_POINT}.return", "vfs_read", 0, True)]


@pytest.mark.parametrize(
    ("function", "why"),
    [
        ("do_open", "2 functions of the kernel have that name, .*-dbg"),
        ("vfs_*", "wildcards .*-dbg"),
        ("vfs_data", "lists no function of that name"),
        ("in_module", "lists no function of that name"),
        ("no_such", "lists no function of that name"),
    ],
)
def test_what_a_name_does_not_tell_is_refused_with_what_would(places, function, why):
    with pytest.raises(ProbeNotFound, match=why):
        _events(places, f'kernel.function("{function}")')


@pytest.mark.parametrize(
    ("mode", "locked"),
    [("[none] integrity confidentiality\n", False), ("none [integrity] confidentiality\n", True), (None, False)],
)
def test_a_kernel_that_is_locked_down_loads_no_module(tmp_path, monkeypatch, mode, locked):
    path = tmp_path / "lockdown"
    if mode is not None:
        path.write_text(mode)
    monkeypatch.setattr(availability, "_LOCKDOWN", path)
    reason = availability.locked_down()
    assert (reason is not None and "secure boot" in reason) is locked
