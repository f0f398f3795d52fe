"""The rule for missing tools: a skip with its reason on a user's machine, a failure where CI is set."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def test_a_missing_tool_skips_with_the_package_that_has_it(
    require_tool: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt install no-such-package"):
        require_tool("no-such-tool", "no-such-package")


def test_a_missing_tool_fails_in_ci(require_tool: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt install no-such-package"):
        require_tool("no-such-tool", "no-such-package")


def test_a_tool_that_is_there_is_found_in_both(
    require_tool: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for setting in ("", "true"):
        monkeypatch.setenv("CI", setting)
        assert require_tool("sh", "dash").endswith("/sh")
