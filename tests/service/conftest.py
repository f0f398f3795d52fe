"""A program with inlined calls, built as a position-independent one and at a fixed address, and a recording of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

_HEADER = """
namespace shop {
inline int tax(int cents) { return cents * 19 / 100 + (cents & 3); }
inline int gross(int cents) { return cents + tax(cents); }
}
"""
_PROGRAM = """
#include "tax.h"
namespace shop {
volatile long total;
__attribute__((noinline)) int sum(const int *items, int count) {
  int all = 0;
  for (int i = 0; i < count; i++)
    all += gross(items[i]);
  return all;
}
__attribute__((cold, noinline)) void refuse(int item) { total = total - item; }
__attribute__((noinline)) int checked(int item) {
  if (item > 1000000)
    refuse(item), total = total * gross(item);
  return item;
}
template <typename T> __attribute__((noinline)) T twice(T value) { total = total + value; return value + gross(value); }
}
int main(int count, char **) {
  int items[64] = {count, 2, 3};
  for (int i = 0; i < 1000000; i++) {
    items[i % 64] += shop::sum(items, 64) & 7;
    shop::total = shop::total + shop::twice(items[5]) + shop::checked(i);
  }
  return 0;
}
"""


@pytest.fixture(scope="session")
def shop(tmp_path_factory, require_tool) -> Path:
    """A folder with tax.h, shop.cpp and the programs `shop` and `fixed`."""
    gxx = require_tool("g++", "g++")
    folder = tmp_path_factory.mktemp("shop")
    (folder / "tax.h").write_text(_HEADER)
    (folder / "shop.cpp").write_text(_PROGRAM)
    flags = ["-O2", "-g", "-fomit-frame-pointer", "-Wl,--build-id"]
    for name, kind in (("shop", "-pie"), ("fixed", "-no-pie")):
        position = "-fPIE" if kind == "-pie" else "-fno-pie"
        subprocess.run([gxx, *flags, position, kind, "-o", name, str(folder / "shop.cpp")], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="session")
def recording(shop, require_tool) -> Path:
    """What perf has recorded of `shop`."""
    perf = require_tool("perf", "linux-perf")
    record = [perf, "record", "-qN", "-e", "cpu-clock:u", "-F", "500", "--call-graph", "dwarf,2048", "--buildid-mmap"]
    subprocess.run([*record, "-o", "shop.data", "./shop"], cwd=shop, check=True, capture_output=True)
    return shop / "shop.data"
