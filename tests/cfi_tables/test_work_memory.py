"""Memory that is used again changes nothing, and two pieces of work never have the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cfi_tables import work_memory
from cfi_tables.elf_image import ElfImage
from cfi_tables.table import build_table
from cfi_tables.work_memory import WorkMemory, kept_memory

ENOUGH = 1 << 20


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(work_memory, "_kept", [])


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def test_the_same_memory_is_used_again_and_cleared():
    with kept_memory() as memory:
        memory.take(ENOUGH, np.uint8)
    with kept_memory() as memory:
        first = memory.take(ENOUGH, np.uint8, cleared=False)
        first[:] = 7
        place = address(first)
    with kept_memory() as memory:
        again = memory.take(ENOUGH, np.uint8)
        assert address(again) == place
        assert not again.any()


def test_arrays_lie_apart():
    with kept_memory() as memory:
        memory.take(4 * ENOUGH, np.uint8)
    with kept_memory() as memory:
        arrays = [
            memory.take(count, dtype) for count, dtype in ((3, np.uint8), (5, np.int64), (0, np.int32), (7, "i4"))
        ]
        for number, array in enumerate(arrays):
            array[:] = number
        assert [set(array.tolist()) for array in arrays] == [{0}, {1}, set(), {3}]


def test_work_at_once_has_memory_of_its_own():
    with kept_memory() as memory:
        memory.take(ENOUGH, np.uint8)
    with kept_memory() as memory, kept_memory() as other:
        one, two = memory.take(ENOUGH, np.uint8), other.take(ENOUGH, np.uint8)
        one[:] = 1
        assert not two.any()
    assert len(work_memory._kept) == 1


def test_what_does_not_fit_is_made_and_fits_the_next_time():
    with kept_memory() as memory:
        memory.take(ENOUGH, np.uint8)
    with kept_memory() as memory:
        memory.take(ENOUGH, np.uint8)
        assert memory.take(3 * ENOUGH, np.uint8).sum() == 0
    assert len(work_memory._kept[0]) >= 4 * ENOUGH


def test_memory_is_kept_after_a_failure():
    with kept_memory() as memory:
        memory.take(ENOUGH, np.uint8)
    with pytest.raises(ValueError, match="damaged"), kept_memory() as memory:
        memory.take(ENOUGH, np.uint8)
        raise ValueError("damaged")
    assert len(work_memory._kept) == 1


def test_little_is_not_kept():
    with kept_memory() as memory:
        memory.take(ENOUGH // 2, np.uint8)
    assert not work_memory._kept
    assert not WorkMemory().take(10, np.int64).any()


def test_tables_built_at_once_and_after_one_another_are_the_same(system_file):
    images = [ElfImage.open(system_file(name)) for name in ("libc.so.6", "libcrypto.so.3")] * 3
    wanted = [build_table(image, use_compiled=True).data.tobytes() for image in images[:2]] * 3
    with ThreadPoolExecutor(3) as threads:
        built = threads.map(lambda image: build_table(image, use_compiled=True).data.tobytes(), images)
        assert list(built) == wanted
