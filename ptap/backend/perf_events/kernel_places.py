"""Functions of the running kernel as probes of perf events: by their names alone, or told apart by vmlinux."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from ptap.backend.perf_events.extra_event import KernelProbeEvent
from ptap.kernel_module.kernel_point import KernelPoint
from ptap.kernel_module.resolve import KernelResolver
from ptap.probe.point import ProbeKind
from ptap.probe.resolve import ProbeNotFound

_KALLSYMS = Path("/proc/kallsyms")


class KernelPlaces:
    """Resolves points of the kernel that runs here."""

    def events(self, points: Sequence[KernelPoint]) -> list[KernelProbeEvent]:
        """The probes of `points`. Raises ProbeNotFound, ElfError and OSError."""
        return [event for point in points for event in self._events(point)]

    def _events(self, point: KernelPoint) -> list[KernelProbeEvent]:
        if point.module is not None:
            raise ProbeNotFound(
                f"{point.text}: only the kernel module probes code of modules; `ptap doctor` tells what it needs"
            )
        is_return = point.kind is ProbeKind.RETURN
        plain = point.kind in (ProbeKind.CALL, ProbeKind.RETURN) or (
            # Where its inlined copies are only vmlinux tells.
            point.kind is ProbeKind.FUNCTION and self._of_vmlinux is None
        )
        if plain and point.file is None and not point.is_wild and self._names.count(point.function) == 1:
            return [KernelProbeEvent(point.text, point.function, 0, is_return)]
        if self._of_vmlinux is None:
            raise ProbeNotFound(f"{point.text}: {self._why(point)}")
        return [
            KernelProbeEvent(place.name, place.symbol, place.offset, is_return)
            for place in self._of_vmlinux.places(point)
        ]

    def _why(self, point: KernelPoint) -> str:
        """Why the name alone is not enough."""
        wild = point.is_wild or point.kind in (ProbeKind.STATEMENT, ProbeKind.INLINE)
        count = self._names.count(point.function)
        if not wild and count == 0 and point.file is None:
            return (
                "the kernel lists no function of that name: it may be inlined everywhere, which its vmlinux would "
                "tell, or lie in a module"
            )
        what = "wildcards and places other than functions need" if wild or count < 2 else (
            f"{count} functions of the kernel have that name, and telling them apart needs"
        )  # fmt: skip
        from unwind.kernel.kernel_files import kernel_debug_remedy

        return f"{what} the kernel's vmlinux: {kernel_debug_remedy()}"

    @cached_property
    def _names(self) -> list[str]:
        """The names of all functions of the kernel itself, as it lists them."""
        rows = (line.split() for line in _KALLSYMS.read_text("utf-8", "replace").splitlines())
        return [row[2] for row in rows if len(row) == 3 and row[1] in "tTwW"]

    @cached_property
    def _of_vmlinux(self) -> KernelResolver | None:
        from unwind.kernel.kernel_files import find_local_vmlinux

        image = find_local_vmlinux([], [])
        return KernelResolver(image) if image is not None and image.has(".symtab") else None
