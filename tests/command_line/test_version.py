"""Which version ptap says that it is."""

from __future__ import annotations

import importlib.metadata

import pytest

from ptap.version import installed_version


def test_it_is_that_of_the_package() -> None:
    assert installed_version() == importlib.metadata.version("ptap")


def test_where_it_is_not_installed_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert "not installed" in installed_version()
