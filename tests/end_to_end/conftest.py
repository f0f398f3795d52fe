"""Fixtures of the tests that run the whole command."""

from __future__ import annotations

from pathlib import Path

import pytest
from ptap_run import BACK_ENDS, Ptap, usable_back_end


@pytest.fixture
def ptap(tmp_path: Path) -> Ptap:
    return Ptap(tmp_path)


@pytest.fixture(params=BACK_ENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each back end in turn; one that does not work here skips with ptap's own reason (fails in CI, as root)."""
    return usable_back_end(request.param)
