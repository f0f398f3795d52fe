"""Programs of other machines than this one, and their core files: i386's run here, aarch64's in QEMU's user emulation.

QEMU writes the core file of what it runs by itself, without the files that were mapped, without floating-point
registers and without what is known of signed addresses; `added_notes` gives it what a kernel would have written.
"""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cores.conftest import HERE, CoreOf

SYSROOT = Path("/usr/aarch64-linux-gnu")
SIGNATURE_MASK = 0x007F_0000_0000_0000
"""The bits of a signature with 48 bits of address, which QEMU's `max` processor has."""

RequireTool = Callable[[str, str], str]


def i386_program(require_tool: RequireTool, folder: Path, source: str, *flags: str) -> Path:
    """A program of tests/cores/programs for i386, by the compiler of this machine."""
    name = "g++" if source.endswith(".cpp") else "gcc"
    compiler = require_tool(name, name)
    # The kernel's headers are in the folder of the machine's other programs; gcc-multilib, which has a link to them,
    # cannot be installed beside the compiler for aarch64.
    headers = Path("/usr/include/x86_64-linux-gnu")
    made = folder / source.partition(".")[0]
    done = subprocess.run(
        [compiler, "-m32", "-g", "-pthread", f"-I{headers}", *flags, HERE / "programs" / source, "-o", made],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"apt-get install libc6-dev-i386 lib32stdc++-12-dev?\n{done.stderr}"
    return made


def aarch64_program(require_tool: RequireTool, folder: Path, source: str, *flags: str) -> Path:
    """A program of tests/cores/programs for aarch64, by the cross compiler."""
    cplusplus = source.endswith(".cpp")
    name = "aarch64-linux-gnu-g++" if cplusplus else "aarch64-linux-gnu-gcc"
    compiler = require_tool(name, "g++-aarch64-linux-gnu" if cplusplus else "gcc-aarch64-linux-gnu")
    made = folder / source.partition(".")[0]
    subprocess.run([compiler, "-g", "-pthread", *flags, HERE / "programs" / source, "-o", made], check=True)
    return made


def _allow_core_files() -> None:
    """As large as may be; root may more than what it was given."""
    given = resource.getrlimit(resource.RLIMIT_CORE)[1]
    for limit in (resource.RLIM_INFINITY, given):
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
            return


def emulated(require_tool: RequireTool, program: Path, folder: Path, *arguments: str) -> CoreOf:
    """The core file that QEMU writes of an aarch64 program, which ends by a signal."""
    emulator = require_tool("qemu-aarch64", "qemu-user")
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [emulator, "-cpu", "max", "-L", SYSROOT, program, *arguments], cwd=folder, capture_output=True, timeout=120,
        preexec_fn=_allow_core_files,
    )  # fmt: skip
    assert done.returncode < 0, done.stderr
    found = list(folder.glob("qemu_*.core"))
    for own in set(folder.iterdir()) - set(found):
        own.unlink()  # the kernel has dumped the emulator as well
    assert len(found) == 1, "no core file (ulimit -H -c?)"
    return CoreOf(found[0], program)
