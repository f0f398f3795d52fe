"""Where the files of a kernel are: vmlinux with its debugging information, and modules by their names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cfi_tables.debug_file import DEBUG_DIRECTORIES, candidates_by_build_id
from cfi_tables.elf_image import ElfError, ElfImage, build_id_of_notes
from unwind.symbolize.debug_package import debug_package

_SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz", ".ko.debug")


@dataclass(frozen=True)
class KernelFiles:
    """Folders that hold modules, the first ones first."""

    module_folders: tuple[Path, ...]

    @classmethod
    def of_this_kernel(cls) -> KernelFiles:
        """The folders of the running kernel's release."""
        release = os.uname().release
        roots = [
            f"{root}{place}" for root in ("", *DEBUG_DIRECTORIES) for place in ("/lib/modules", "/usr/lib/modules")
        ]
        return cls(tuple(Path(root, release) for root in roots))

    def module_paths(self, name: str) -> list[Path]:
        """The files of module `name`, in the order of the folders: often a stripped one and its debug file."""
        return self._modules.get(name, [])

    @cached_property
    def _modules(self) -> dict[str, list[Path]]:
        """Files by module name: the kernel takes `-` and `_` for the same."""
        found: dict[str, list[Path]] = {}
        for folder in self.module_folders:
            for directory, folders, files in os.walk(folder):
                folders.sort()
                for file in sorted(files):
                    suffix = next((each for each in _SUFFIXES if file.endswith(each)), None)
                    if suffix is not None:
                        name = file.removesuffix(suffix).replace("-", "_")
                        found.setdefault(name, []).append(Path(directory, file))
        return found


def running_build_id(notes: Path = Path("/sys/kernel/notes")) -> bytes | None:
    """The build-id of the running kernel; None where it does not tell."""
    try:
        return build_id_of_notes(notes.read_bytes(), "<")
    except OSError:
        return None


def find_vmlinux(looked_at: list[str], refused: list[str]) -> ElfImage | None:
    """The running kernel's vmlinux, by its build-id and by its release; notes where was looked."""
    return find_local_vmlinux(looked_at, refused) or vmlinux_from_server(looked_at, refused)


def kernel_debug_remedy() -> str:
    """What gives the running kernel's debugging information, as far as its package manager knows."""
    release = os.uname().release
    known = debug_package(f"/boot/vmlinuz-{release}")
    if known is not None and known.debug is not None:
        return known.remedy
    return f"install the kernel's -dbg or -dbgsym package (on Debian linux-image-{release}-dbg)"


def find_local_vmlinux(looked_at: list[str], refused: list[str]) -> ElfImage | None:
    """The running kernel's vmlinux, where it is on this machine."""
    build_id = running_build_id()
    release = os.uname().release
    places = list(candidates_by_build_id(build_id, DEBUG_DIRECTORIES))
    for root in DEBUG_DIRECTORIES:
        places += [f"{root}/boot/vmlinux-{release}", f"{root}/lib/modules/{release}/vmlinux"]
    places += [f"/boot/vmlinux-{release}", f"/lib/modules/{release}/vmlinux", f"/lib/modules/{release}/build/vmlinux"]
    for path in places:
        looked_at.append(path)
        try:
            if not os.path.isfile(path):
                continue
            image = ElfImage.open(path)
        except (ElfError, OSError) as error:
            refused.append(f"{path} cannot be read ({error})")
            continue
        if build_id is not None and image.build_id != build_id:
            theirs = image.build_id.hex() if image.build_id else "none"
            refused.append(f"{path} is of another build: its build-id is {theirs}, the kernel's {build_id.hex()}")
            continue
        return image
    return None


def vmlinux_from_server(looked_at: list[str], refused: list[str]) -> ElfImage | None:
    """The running kernel's vmlinux from a debuginfod server, where one is named."""
    from cfi_tables.debuginfod import debuginfod_from_environment

    build_id = running_build_id()
    servers = debuginfod_from_environment()
    if build_id is None or servers is None:
        return None
    looked_at += servers.urls
    fetched = servers.debug_file(build_id, "the kernel")
    if fetched.path is None:
        refused.append(fetched.reason)
        return None
    try:
        return ElfImage.open(fetched.path)
    except (ElfError, OSError) as error:
        refused.append(str(error))
        return None
