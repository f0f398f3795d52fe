"""The modules of a session's description, as the walk of what it records needs them."""

from __future__ import annotations

from typing import Any

from unwind.kernel.kernel_walk import KernelModuleFile


def described_modules(description: dict[str, Any]) -> list[KernelModuleFile]:
    """In the order of their numbers."""
    return [_module_file(module) for module in description.get("modules", ())]


def _module_file(described: dict[str, Any]) -> KernelModuleFile:
    build_id = described["build_id"]
    sections = tuple((int(each["start"]), int(each["end"])) for each in described["sections"])
    return KernelModuleFile(
        described["name"], described["file"], bytes.fromhex(build_id) if build_id else None, sections
    )
