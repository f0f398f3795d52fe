"""The reports of one capture in the forms that are served, made when they are asked for and kept up to a size limit."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from os.path import basename
from typing import TYPE_CHECKING, NamedTuple

from ptap.file_report import open_file_report
from ptap.profile.profile_report import ProfileReport
from ptap.report.trace_filter import FilteredReport, TraceFilter
from relay_reader.capture_kind import kind_of_file

if TYPE_CHECKING:
    from ptap.capture_report import ReportOptions
    from ptap.profile.stack_profile import StackProfile
    from ptap.service.served_files import FileState


class Form(NamedTuple):
    """One form of a report."""

    name: str
    """The last part of its URL."""
    media_type: str
    write: Callable[[StackProfile, io.BytesIO, str], None]
    """Takes the profile, where to write, and a title."""


def _html(profile: StackProfile, stream: io.BytesIO, title: str) -> None:
    from ptap.profile.html import write_html

    with _Utf8(stream) as text:
        write_html(profile, text, title=title)


def _firefox(profile: StackProfile, stream: io.BytesIO, title: str) -> None:
    from ptap.profile.firefox import write_firefox

    with _Utf8(stream) as text:
        write_firefox(profile, text, product=title)


def _speedscope(profile: StackProfile, stream: io.BytesIO, _: str) -> None:
    from ptap.profile.speedscope import write_speedscope

    with _Utf8(stream) as text:
        write_speedscope(profile, text)


def _pprof(profile: StackProfile, stream: io.BytesIO, _: str) -> None:
    from ptap.profile.pprof import write_pprof

    write_pprof(profile, stream)


class _Utf8(io.TextIOWrapper):
    """UTF-8 over bytes that stay open."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, encoding="utf-8", errors="backslashreplace", newline="\n")

    def __exit__(self, *_: object) -> None:
        self.detach()


AS_IT_IS = "firefox.json"
"""The form that a profile for the Firefox Profiler has itself."""

FORMS = {
    form.name: form
    for form in (
        Form("report.html", "text/html; charset=utf-8", _html),
        Form(AS_IT_IS, "application/json", _firefox),
        Form("speedscope.json", "application/json", _speedscope),
        Form("profile.pb.gz", "application/gzip", _pprof),
    )
}


@dataclass(slots=True)
class _Walked:
    """What the walk of a capture's stacks came to."""

    state: FileState
    profile: StackProfile


class MadeReports:
    """Reports by file, its state and the form. The newest that fit `limit` bytes are kept, and the last profile."""

    def __init__(self, options: ReportOptions, limit: int) -> None:
        self._options = options
        self._limit = limit
        self._size = 0
        self._kept: OrderedDict[tuple[FileState, str], bytes] = OrderedDict()
        self._last: _Walked | None = None
        self._told: dict[str, list[str]] = {}

    def kept(self, state: FileState, form: Form) -> bytes | None:
        """A report that is there already."""
        return self._kept.get((state, form.name))

    def told(self, path: str) -> list[str]:
        """What was missing for the stacks of a file, and the counts last; [] where none of its reports was made."""
        return self._told.get(path, [])

    def make(self, state: FileState, form: Form) -> bytes:
        """The report of a file. Raises what its walk raises."""
        key = state, form.name
        made = self._kept.get(key)
        if made is not None:
            self._kept.move_to_end(key)
            return made
        stream = io.BytesIO()
        form.write(self._walked(state).profile, stream, basename(state.path))
        return self._keep(key, stream.getvalue())

    def _walked(self, state: FileState) -> _Walked:
        if self._last is None or self._last.state != state:
            self._last = None  # not two of them at once
            session = open_file_report(kind_of_file(state.path), state.path, self._options)
            try:
                report = ProfileReport(lambda _: None)
                session.write(FilteredReport(report, TraceFilter()))
                self._told[state.path] = session.closing_lines()
            finally:
                session.close()
            self._last = _Walked(state, report.profile)
        return self._last

    def _keep(self, key: tuple[FileState, str], made: bytes) -> bytes:
        for old in [each for each in self._kept if each[0].path == key[0].path and each[0] != key[0]]:
            self._size -= len(self._kept.pop(old))  # of what the file was before
        if len(made) <= self._limit:
            self._kept[key] = made
            self._size += len(made)
            while self._size > self._limit:
                self._size -= len(self._kept.popitem(last=False)[1])
        return made
