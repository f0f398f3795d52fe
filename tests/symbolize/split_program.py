"""A program of two units with split DWARF, and its split files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cfi_tables.elf_image import ElfImage

BUILDS = [
    ("gcc", "-gdwarf-4", "-O2"),
    ("gcc", "-gdwarf-5", "-O2", "-gz"),
    ("g++", "-gdwarf-4", "-O2", "-fdebug-types-section"),
    ("g++", "-gdwarf-5", "-O2", "-fdebug-types-section"),
    ("g++", "-gdwarf-5", "-O2", "-ffunction-sections", "-Wl,--gc-sections"),
    ("clang", "-gdwarf-5", "-O3"),
    ("clang++", "-gdwarf-4", "-O2", "-fdebug-types-section"),
    ("clang++", "-gdwarf-5", "-O2", "-fdebug-types-section"),
    ("clang++", "-gdwarf-5", "-O2", "-fsplit-dwarf-inlining"),
    ("clang++", "-gdwarf-4", "-O2", "-gz"),
]


class SplitProgram:
    """The program in a folder of its own, and its split files."""

    def __init__(self, folder: Path, options: tuple[str, ...], sources: dict[str, str]) -> None:
        self.folder = folder
        self.path = folder / "program"
        for name, text in sources.items():
            (folder / name).write_text(text)
        if shutil.which(options[0]) is None:
            pytest.skip(f"{options[0]} is not installed")
        self._command = [*options, *sources]
        self._compile("-gsplit-dwarf", "-o", "program")
        self.files = sorted(folder.glob("*.dwo"))
        assert len(self.files) == len(sources)

    def _compile(self, *options: str) -> None:
        subprocess.run([*self._command, *options], cwd=self.folder, check=True, capture_output=True)

    def unsplit(self) -> Path:
        """The same code with all its debugging information in it."""
        self._compile("-g", "-o", "unsplit")
        whole = self.folder / "unsplit"
        assert code(whole) == code(self.path)
        return whole

    def package(self, tool: str) -> None:
        """Put the .dwo files into program.dwp and remove them."""
        target = self.folder / "program.dwp"
        command = [tool, *map(str, self.files), "-o", str(target)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)  # llvm-dwp-14 may hang
        for file in self.files:
            file.unlink()


def code(path: Path) -> tuple[int, int]:
    section = ElfImage.open(path).sections[".text"]
    return section.address, section.size


# binutils' dwp leaves out units of DWARF 5; LLVM's hangs on some of gcc's C.
PACKAGES = [
    ("dwp", "binutils", BUILDS[0]),
    ("dwp", "binutils", BUILDS[2]),
    ("dwp", "binutils", BUILDS[6]),
    *(("llvm-dwp-14", "llvm-14", BUILDS[number]) for number in (2, 3, 4, 5, 6, 7)),
]
