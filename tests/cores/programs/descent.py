"""Recursion that goes through C functions of the interpreter again and again, down to an abort()."""

import functools
import os
import sys


class Tree:
    def __init__(self, depth):
        self.depth = depth

    def __lt__(self, other):
        return descend(self.depth)

    def __repr__(self):
        return f"Tree{descend(self.depth)}"


def descend(depth):
    if depth <= 0:
        os.abort()
    if depth % 3 == 0:
        return sorted([Tree(depth - 1), Tree(depth - 1)])[0].depth
    if depth % 3 == 1:
        return functools.reduce(lambda a, b: descend(depth - 1), [1, 2, 3])
    return len(repr([Tree(depth - 1), "text", 2.5]))


descend(int(sys.argv[1]))
