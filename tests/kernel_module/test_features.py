"""How the module finds what a kernel has: small files of C, of which those count that compile (features.sh)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_MODULE = Path(__file__).resolve().parents[2] / "runtime_c" / "module"
_HEADER = """struct known {
	int there;
};
#define VALUE_OF(each) ((each)->there)
#define GONE_OF(each) ((each)->gone)
int same(void);
"""
_TESTS = {
    "a_member": "int a(struct known *each) { return each->there; }",
    "a_macro": "int b(struct known *each) { return VALUE_OF(each); }",
    "another_member": "int c(struct known *each) { return each->missing; }",
    "a_macro_of_nothing": "int d(struct known *each) { return GONE_OF(each); }",
    "no_header": "#include <no_such_header.h>\nint e(void) { return 0; }",
    "behind_it": "int f(void) { return same(); }",
    "other_arguments": "int g(void) { return same(1); }",
    "not_declared": "int h(void) { return never(); }",
}


def _found(folder: Path, *options: str) -> set[str]:
    command = ["gcc", "-std=gnu11", "-Wall", "-Werror", "-fsyntax-only", f"-I{folder.parent}", *options]
    done = subprocess.run(
        ["sh", str(_MODULE / "features.sh"), str(folder), *command], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return {line.removeprefix("-DPTAP_HAS_").lower() for line in done.stdout.splitlines()}


def _each_alone(folder: Path) -> set[str]:
    command = ["gcc", "-std=gnu11", "-Wall", "-Werror", "-fsyntax-only", f"-I{folder.parent}"]
    done = {path.stem: subprocess.run([*command, path], capture_output=True) for path in folder.glob("*.c")}
    return {name for name, each in done.items() if each.returncode == 0}


@pytest.fixture
def folder(tmp_path) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed (Debian: apt install gcc)")
    (tmp_path / "known.h").write_text(f"#pragma once\n{_HEADER}")
    folder = tmp_path / "features"
    folder.mkdir()
    for name, text in _TESTS.items():
        (folder / f"{name}.c").write_text(f"#include <known.h>\n{text}\n")
    return folder


def test_what_compiles_alone_is_found(folder):
    assert _found(folder) == _each_alone(folder) == {"a_member", "a_macro", "behind_it"}


def test_errors_that_are_in_no_test_hide_none(folder):
    """Where two do not go together, each counts by itself."""
    (folder.parent / "wide.h").write_text("#define there wide\n")
    (folder / "a_wide_one.c").write_text("#include <wide.h>\nint there;\n")
    (folder.parent / "narrow.h").write_text("extern char wide;\n")
    (folder / "narrow.c").write_text("#include <narrow.h>\nint i(void) { return 0; }\n")
    assert _found(folder) == _each_alone(folder) >= {"a_wide_one", "narrow", "behind_it", "a_macro"}


def test_nothing_is_found_where_nothing_compiles(folder):
    assert _found(folder, "-no-such-option") == set()


def test_the_real_ones_are_named_apart():
    """All are compiled as one: no two of them define the same name."""
    files = sorted((_MODULE / "features").glob("*.c"))
    assert len(files) > 3
    lines = [line for path in files for line in path.read_text().splitlines()]
    declared = [
        line.split("(")[0].split()[-1].lstrip("*") for line in lines if line[:1].isalpha() and line.endswith(";")
    ]
    assert len(declared) >= len(files) and len(declared) == len(set(declared))
