"""A module whose code is probed: built from the sources beside this file, each function in a section of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_SOURCES = ("ptap_probed.c", "ptap_probed_other.c")
_HEADERS = ("ptap_probed.h", "ptap_probed_trace.h")
_KBUILD = """obj-m := probed.o
probed-y := ptap_probed.o ptap_probed_other.o
ccflags-y += -g -ffunction-sections -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare
ccflags-y += -Wno-missing-field-initializers -Wno-type-limits -Wno-shift-negative-value -Wno-cast-function-type
ccflags-y += -Wno-override-init
# The kernel's own header of tracepoints looks for the module's.
ccflags-y += -I$(src)
"""


def probed_module(headers: Path, folder: Path) -> Path:
    """The module `probed`, with debug information, in `folder`, for the kernel whose headers these are."""
    folder.mkdir()
    for name in (*_SOURCES, *_HEADERS):
        shutil.copyfile(_HERE / name, folder / name)
    (folder / "Kbuild").write_text(_KBUILD)
    settings = ["CC=gcc-12", "CONFIG_DEBUG_INFO_BTF_MODULES=", "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT="]
    command = ["make", "-C", str(headers), f"M={folder}", *settings, "modules"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "probed.ko"
