"""Programs that the symbol tests read, each compiled once a run, and llvm-symbolizer as their oracle."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from split_program import SplitProgram

from cfi_tables.elf_image import ElfImage

INVENTORY_CPP = r"""
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>
namespace store {
template <class T> struct Crate {
  T content;
  explicit Crate(T x) : content(x) {}
  static inline T doubled(T x) {
    T y = x * 2;
    if (y > 100) y -= (T)rand();
    return y;
  }
};
namespace { int weigh(int x) { volatile int z = x; return z + 3; } }
struct Shelf { virtual ~Shelf() {} virtual int count(int) = 0; };
struct Rack : Shelf {
  int count(int n) override {
    auto each = [n](int k) { return weigh(k) + n; };
    int s = 0;
    for (int i = 0; i < n; i++)
      s += each(i) + Crate<int>::doubled(i);
    return s;
  }
};
}
extern "C" __attribute__((noinline)) int c_entry(store::Shelf &b, int n) { return b.count(n); }
static inline __attribute__((always_inline)) int inner(int a) { return a * rand() + 7; }
static inline __attribute__((always_inline)) int outer(int a) { return inner(a) + inner(a + 1); }
__attribute__((cold, noinline)) void fail(const char *why) { fprintf(stderr, "%s\n", why); exit(1); }
int operator+(store::Crate<int> a, int b) { return a.content + b; }
int main(int argc, char **argv) {
  store::Rack rack;
  std::vector<std::string> names;
  for (int i = 0; i < argc; i++) names.push_back(argv[i]);
  if (names.empty()) fail("none");
  printf("%d %d %d\n", c_entry(rack, argc), outer(argc), store::Crate<int>(3) + 4);
  return 0;
}
"""

LEDGER_C = r"""
#include <stdio.h>
#include <stdlib.h>
static int post(int amount) { return amount > 3 ? amount * rand() : amount; }
__attribute__((noinline)) int balance(int *amounts, int count) {
  int sum = 0;
  for (int i = 0; i < count; i++) {
    sum += post(amounts[i]);
    if (sum < -1000) { puts("overdrawn"); abort(); }
  }
  return sum;
}
int main(int argc, char **argv) {
  int amounts[3] = {argc, 5, -2};
  return balance(amounts, argc > 2 ? 3 : 2) + post(argc);
}
"""

Build = Callable[..., Path]


@pytest.fixture(scope="session")
def symbol_sources() -> dict[str, str]:
    """The programs' sources by file name."""
    return {"inventory.cpp": INVENTORY_CPP, "ledger.c": LEDGER_C}


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """`build("gcc", "-O2", …)` compiles the C or (g++, clang++) C++ program and gives its path."""
    folder = tmp_path_factory.mktemp("symbol_programs")
    (folder / "inventory.cpp").write_text(INVENTORY_CPP)
    (folder / "ledger.c").write_text(LEDGER_C)
    done: dict[tuple[str, ...], Path] = {}

    def compile_program(compiler: str, *options: str) -> Path:
        key = (compiler, *options)
        if key not in done:
            if shutil.which(compiler) is None:
                pytest.skip(f"{compiler} is not installed")
            output = folder / f"program{len(done)}"
            source = "inventory.cpp" if compiler.endswith("++") else "ledger.c"
            command = [compiler, *options, "-o", str(output), source]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            done[key] = output
        return done[key]

    return compile_program


@pytest.fixture(scope="session")
def llvm_frames() -> Callable[[Path, list[int]], list[list[dict[str, Any]]]]:
    """`llvm_frames(path, addresses)`: for each address llvm-symbolizer's frames, innermost first."""
    tool = shutil.which("llvm-symbolizer-14") or shutil.which("llvm-symbolizer")
    if tool is None:
        pytest.skip("llvm-symbolizer is not installed (apt-get install llvm-14)")

    def run(path: Path, addresses: list[int]) -> list[list[dict[str, Any]]]:
        answer = subprocess.run(
            [tool, "--inlines", "--output-style=JSON", "-e", str(path)],
            input="".join(f"{address:#x}\n" for address in addresses),
            capture_output=True,
            text=True,
            check=True,
        )
        return [json.loads(line)["Symbol"] for line in answer.stdout.splitlines()]

    return run


@pytest.fixture(scope="session")
def text_addresses() -> Callable[[Path, int], list[int]]:
    """`text_addresses(path, step)`: every `step` bytes of .text."""

    def addresses(path: Path, step: int) -> list[int]:
        section = ElfImage.open(path).sections[".text"]
        return list(range(section.address, section.address + section.size, step))

    return addresses


@pytest.fixture
def split(tmp_path: Path, symbol_sources: dict[str, str]) -> Callable[..., SplitProgram]:
    """`split("g++", …)` compiles inventory.cpp, or ledger.c, and a second unit with -gsplit-dwarf."""

    def make(*options: str) -> SplitProgram:
        source = "inventory.cpp" if options[0].endswith("++") else "ledger.c"
        second = "int second(int x) { int y = x * 3; return y + (x > 5 ? second(y - x) : 1); }\n"
        sources = {source: symbol_sources[source], "second" + Path(source).suffix: second}
        return SplitProgram(tmp_path, options, sources)

    return make
