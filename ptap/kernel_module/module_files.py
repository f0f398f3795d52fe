"""The files of a kernel's modules, by name: those that were named, and folders of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cfi_tables.elf_image import ElfImage
from cfi_tables.image_file import open_image
from ptap.probe.resolve import ProbeNotFound
from unwind.kernel.kernel_files import KernelFiles

_SUFFIX = ".ko"


class ModuleFiles:
    """Finds modules in `files`, named as they are called, then below `folders`."""

    def __init__(self, files: Sequence[Path] = (), folders: Sequence[Path] = ()) -> None:
        self._files = {_module_name(path): path for path in files}
        self._folders = KernelFiles(tuple(folders))

    @property
    def named(self) -> list[str]:
        """The modules whose files were named."""
        return sorted(self._files)

    def open(self, name: str) -> ElfImage:
        """The file of module `name`, one with debug information if there is one.

        Raises ProbeNotFound, ElfError and OSError.
        """
        if name in self._files:
            return open_image(self._files[name])
        images = [open_image(path) for path in self._folders.module_paths(name)]
        if not images:
            raise ProbeNotFound(
                f'module("{name}"): no file of that module; name it (--module-file {name}.ko), or the folder of that '
                "kernel's modules (--module-dir /lib/modules/RELEASE)"
            )
        return next((image for image in images if image.has(".debug_info")), images[0])


def _module_name(path: Path) -> str:
    """As the kernel has it: with underscores, without what says how the file is compressed."""
    return path.name.partition(_SUFFIX)[0].replace("-", "_")
