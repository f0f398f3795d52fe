"""What the kernel that runs here is to be probed with: headers, an image with its unwind data, and its symbols.

The image is the vmlinux of a -dbg package where there is one, which gives lines, too. Else the boot image has the
unwind data (ORC) and /proc/kallsyms the symbols, which are moved back to where the kernel was linked to.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cfi_tables.cache import tables_directory
from cfi_tables.elf_image import ElfError, ElfImage
from ptap.backend.live_capture import CaptureError
from unwind.kallsyms import Kallsyms
from unwind.kernel.kernel_files import find_local_vmlinux, kernel_debug_remedy, running_build_id, vmlinux_from_server

_BEGINS = ((".text", "_text"), (".orc_unwind_ip", "__start_orc_unwind_ip"), ("__ksymtab", "__start___ksymtab"))
"""Sections and the symbols at their begin."""


@dataclass(frozen=True, slots=True)
class RunningKernel:
    """The kernel that runs here, as files."""

    vmlinux: ElfImage
    system_map: Path | None
    """Its symbols as they were linked, where vmlinux has none."""


def headers_folder() -> Path | None:
    """What modules for the running kernel are built with; None when it is not installed."""
    release = platform.release()
    for folder in (Path("/lib/modules", release, "build"), Path(f"/usr/src/linux-headers-{release}")):
        if (folder / "Makefile").exists() and (folder / ".config").exists():
            return folder
    return None


def boot_images() -> Iterator[Path]:
    """Where the running kernel's boot image may be, those that are there."""
    release = platform.release()
    for path in (Path(f"/boot/vmlinuz-{release}"), *(Path(each, release, "vmlinuz") for each in _MODULE_FOLDERS)):
        if path.is_file():
            yield path


_MODULE_FOLDERS = ("/lib/modules", "/usr/lib/modules")


def find_kernel(work: Path) -> RunningKernel:
    """The running kernel's files; what has to be made of them is written to `work`. Raises CaptureError, OSError."""
    looked_at: list[str] = []
    refused: list[str] = []
    vmlinux = find_local_vmlinux(looked_at, refused) or vmlinux_from_server(looked_at, refused)
    if vmlinux is not None and vmlinux.has(".symtab"):
        return RunningKernel(vmlinux, None)
    build_id = running_build_id()
    for path in boot_images():
        try:
            image = unpacked(path, build_id)
        except (ElfError, OSError) as error:
            refused.append(str(error))
            continue
        system_map = work / "System.map"
        system_map.write_text("".join(_linked_symbols(image)))
        return RunningKernel(image, system_map)
    told = "".join(f"{problem}; " for problem in refused)
    raise CaptureError(
        f"the running kernel's unwind data is not to be had: {told}{kernel_debug_remedy()}, or use --backend perf"
    )


def unpacked(path: Path, build_id: bytes | None) -> ElfImage:
    """The ELF image in a boot image, as a file of the cache. Raises ElfError and OSError."""
    from cfi_tables.image_file import open_image

    if build_id is not None:
        kept = tables_directory().parent / "kernels" / build_id.hex() / "vmlinux"
        if kept.is_file():
            return ElfImage.open(kept)
    image = open_image(path)
    if build_id is None or image.build_id != build_id:
        theirs = image.build_id.hex() if image.build_id else "none"
        ours = build_id.hex() if build_id else "not known"
        raise ElfError(f"{path} is not the kernel that runs: its build-id is {theirs}, the kernel's {ours}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_name(f"vmlinux.{os.getpid()}")
    partial.write_bytes(image.data.tobytes())
    partial.rename(kept)
    return ElfImage.open(kept)


def _linked_symbols(image: ElfImage) -> Iterable[str]:
    """The lines of a System.map: /proc/kallsyms with every address moved back. Raises CaptureError."""
    kallsyms = Kallsyms.of_this_kernel()
    if kallsyms.problem is not None:
        raise CaptureError(kallsyms.problem)
    slide = _slide(image)
    begin = image.sections[".text"].address
    for line in Path("/proc/kallsyms").read_text("utf-8", "replace").splitlines():
        address, kind, name = line.split(None, 2)
        linked = int(address, 16) - slide
        if linked >= begin and "\t[" not in name:
            yield f"{linked:016x} {kind} {name}\n"


def _slide(image: ElfImage) -> int:
    """How far the kernel was moved from where `image` was linked to. Raises CaptureError when symbols disagree."""
    wanted = {symbol: image.sections[name].address for name, symbol in _BEGINS if image.has(name)}
    slides = set()
    for line in Path("/proc/kallsyms").read_text("utf-8", "replace").splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[2] in wanted:
            slides.add(int(fields[0], 16) - wanted[fields[2]])
    if len(slides) != 1:
        raise CaptureError(
            f"how far the running kernel was moved from {image.path} is not to be seen ({len(slides)} different "
            f"answers of /proc/kallsyms); {kernel_debug_remedy()}, or use --backend perf"
        )
    return slides.pop()
