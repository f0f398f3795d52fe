"""Probe points of a live run: those of programs and of the kernel, told apart by their first words."""

from __future__ import annotations

import re
from typing import TypeAlias

from ptap.kernel_module.kernel_point import KernelPoint, parse_kernel_point
from ptap.probe.point import ProbeKind, ProbePoint, parse_probe_point

TracePoint: TypeAlias = ProbePoint | KernelPoint

_KERNEL = re.compile(r"\s*(kernel\s*\.\s*(function|statement)|module\s*\()")
_OF_BOTH = re.compile(r"\s*(kernel\s*\.\s*trace|timer)\b")
"""What perf events and the kernel module both serve."""


def point_of_module(point: TracePoint) -> TracePoint:
    """`point` as the kernel module serves it. Raises ProbeSyntaxError."""
    if isinstance(point, ProbePoint) and point.kind in (ProbeKind.TRACEPOINT, ProbeKind.TIMER):
        return parse_kernel_point(point.text)
    return point


def parse_trace_point(text: str, back_end: str) -> TracePoint:
    """`text` as the point that `back_end` (or `auto`) serves. Raises ProbeSyntaxError."""
    if _KERNEL.match(text) or (back_end == "module" and _OF_BOTH.match(text)):
        return parse_kernel_point(text)
    return parse_probe_point(text)
