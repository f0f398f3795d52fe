"""A stable sort of two columns by the first one, for hot loops: what NumPy does for whole arrays."""

from __future__ import annotations

from typing import Any

from cfi_tables.hot_loop import hot_loop

_RUN = 16


@hot_loop
def sort_pairs(keys: Any, values: Any, first: int, last: int, spare_keys: Any, spare_values: Any) -> None:
    """Sort `keys[first:last]` and, with them, `values[first:last]`; equal keys keep their order.

    The spare arrays are scratch of at least `last` elements. Merges runs that are sorted by insertion, so its time is
    bounded for whatever is in a damaged file; what is in order already, as it mostly is, takes one pass.
    """
    ordered = True
    for index in range(first + 1, last):
        if keys[index] < keys[index - 1]:
            ordered = False
            break
    if ordered:
        return
    for begin in range(first, last, _RUN):
        for index in range(begin + 1, min(begin + _RUN, last)):
            key = 0 + keys[index]
            value = 0 + values[index]
            at = index
            while at > begin and keys[at - 1] > key:
                keys[at] = keys[at - 1]
                values[at] = values[at - 1]
                at -= 1
            keys[at] = key
            values[at] = value
    width = _RUN
    while width < last - first:
        for begin in range(first, last, 2 * width):
            middle = min(begin + width, last)
            end = min(begin + 2 * width, last)
            left = begin
            right = middle
            for index in range(begin, end):
                if left < middle and (right >= end or keys[left] <= keys[right]):
                    spare_keys[index] = keys[left]
                    spare_values[index] = values[left]
                    left += 1
                else:
                    spare_keys[index] = keys[right]
                    spare_values[index] = values[right]
                    right += 1
        for index in range(first, last):
            keys[index] = spare_keys[index]
            values[index] = spare_values[index]
        width *= 2
