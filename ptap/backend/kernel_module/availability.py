"""Can the kernel module be used here? For `ptap doctor` and the automatic choice; nothing is built or loaded."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from ptap.backend.kernel_module.running_kernel import boot_images, headers_folder
from ptap.backend.perf_events.kprobe_events import no_kprobes

_LOCKDOWN = Path("/sys/kernel/security/lockdown")
_LOADING = Path("/proc/sys/kernel/modules_disabled")
_OPTIMIZED_KPROBES = Path("/proc/sys/debug/kprobes-optimization")


def available() -> str | None:
    """None when the module can be built, loaded and read here; else what is missing, and what would help."""
    for reason in (_no_modules(), no_module_kprobes(), locked_down(), _not_root(), _nothing_to_build_with()):
        if reason is not None:
            return reason
    return _no_unwind_data()


def _no_modules() -> str | None:
    if not Path("/proc/modules").exists():
        return "this kernel is built without loadable modules (CONFIG_MODULES): boot one of a distribution"
    if _read(_LOADING) == "1":
        return "no more modules can be loaded until the next boot (kernel.modules_disabled is 1)"
    return None


def no_module_kprobes() -> str | None:
    """Why modules cannot probe this kernel, None where they can: perf may be kept from what they may use."""
    return None if _OPTIMIZED_KPROBES.exists() else no_kprobes()


def locked_down() -> str | None:
    """Why unsigned modules are refused; None where they are not, as far as the kernel tells."""
    mode = re.search(r"\[(\w+)\]", _read(_LOCKDOWN))
    if mode is None or mode[1] == "none":
        return None
    return (
        f"the kernel is locked down ({mode[1]}), as with secure boot, and loads no modules that are not signed for it: "
        "sign the module, or switch secure boot off"
    )


def _not_root() -> str | None:
    return None if os.geteuid() == 0 else "kernel modules are loaded by root only: run as root"


def _nothing_to_build_with() -> str | None:
    from ptap.kernel_module.build import ModuleBuildError, kept_module, missing_tool

    release = platform.release()
    headers = headers_folder()
    if headers is None:
        return f"the headers of this kernel are not installed: install linux-headers-{release}"
    try:
        return None if kept_module(headers) is not None else missing_tool(headers)
    except ModuleBuildError as error:
        return str(error)


def _no_unwind_data() -> str | None:
    from unwind.kernel.kernel_files import find_local_vmlinux, kernel_debug_remedy

    refused: list[str] = []
    if find_local_vmlinux([], refused) is not None or next(boot_images(), None) is not None:
        return None
    if os.environ.get("DEBUGINFOD_URLS"):
        return None  # asked when a trace begins
    told = "".join(f"{problem}; " for problem in refused)
    return f"neither vmlinux nor the boot image of this kernel is here: {told}{kernel_debug_remedy()}"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
