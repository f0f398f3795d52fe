"""Names of the running kernel, for completion: functions, modules and tracepoints, as far as this user may see them."""

from __future__ import annotations

import re
from pathlib import Path

_KALLSYMS = Path("/proc/kallsyms")
_EVENTS = Path("/sys/kernel/tracing/available_events")


def kernel_functions(prefix: str, module: str | None = None) -> set[str]:
    """The functions of the kernel, or of a loaded module, whose names begin with `prefix`."""
    owner = b"" if module is None else rb"\t\[" + re.escape(module.encode()) + rb"\]"
    pattern = rb"(?m)^[0-9a-f]+ [tTwW] (" + re.escape(prefix.encode()) + rb'[^\s"]*)' + owner + rb"$"
    # Copies that the compiler made (`f.cold`, `f.isra.0`) are found by the name of the function that they are of.
    return {name.decode(errors="replace").partition(".")[0] for name in re.findall(pattern, _content(_KALLSYMS))}


def loaded_modules() -> list[str]:
    """The modules that are loaded."""
    return [line.split()[0].decode(errors="replace") for line in _content(Path("/proc/modules")).splitlines() if line]


def tracepoints() -> list[str]:
    """Each as GROUP:NAME; none where tracefs is not mounted, or only root may look."""
    return _content(_EVENTS).decode(errors="replace").split()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
