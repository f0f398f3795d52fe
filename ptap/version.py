"""Which version of ptap this is."""

from __future__ import annotations


def installed_version() -> str:
    """As its package says; where it runs from its sources, that."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ptap")
    except PackageNotFoundError:
        return "(not installed: from its sources)"
