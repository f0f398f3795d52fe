"""The peer in the guest: a probe in which the kernel's own unwinder walks."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

PEERS = {
    "empty-probe": "walker=0",
    "stack_trace_save": "walker=1",
    "unwind_next_frame": "walker=2",
}
"""What is measured -> the module's parameters: a probe that does nothing, and the kernel's two ways to walk."""
_SOURCE = Path(__file__).with_name("peer_module.c")


def build_peer(headers: Path, target: Path) -> None:
    """Build the module for the kernel of `headers`. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory(prefix="ptap-peer-") as folder:
        shutil.copy(_SOURCE, folder)
        Path(folder, "Kbuild").write_text("obj-m := peer_module.o\n")
        settings = ["CC=gcc-12", "CONFIG_DEBUG_INFO_BTF_MODULES=", "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT="]
        command = ["make", "-s", "-C", str(headers), f"M={folder}", *settings, "modules"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        shutil.copy(Path(folder, "peer_module.ko"), target)
