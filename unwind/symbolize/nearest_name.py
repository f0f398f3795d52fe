"""The names that someone may have meant who wrote one that is not there.

A name counts as near when it contains what was written, or when it, or one of its words (`apply` in
`apply_discount`), differs by few letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORD = re.compile(r"[^\W_]+")
_CUTOFF = 0.7
_WORD_WEIGHT = 0.95
"""A whole name that is alike comes before a word that is as much alike."""


def nearest_names(name: str, names: Iterable[str], count: int = 4) -> list[str]:
    """Up to `count` of `names`, the most likely first. Case and wildcards at the ends of `name` do not count."""
    bare = name.strip("*?").lower()
    if not bare:
        return []
    by_word: dict[str, set[str]] = {}
    scores: dict[str, float] = {}
    for each in set(names):
        folded = each.lower()
        if bare in folded:
            scores[each] = 1 - _CUTOFF * (len(folded) - len(bare)) / (2 * len(folded))
        by_word.setdefault(folded, set()).add(each)
        for word in _WORD.findall(folded):
            by_word.setdefault(word, set()).add(each)
    for word, score in _alike(bare, by_word):
        for each in by_word[word]:
            weighted = score if each.lower() == word else score * _WORD_WEIGHT
            scores[each] = max(scores.get(each, 0.0), weighted)
    return sorted(scores, key=lambda each: (-scores[each], len(each), each))[:count]


def _alike(bare: str, words: Iterable[str]) -> Iterable[tuple[str, float]]:
    """The words that differ from `bare` by few letters, with how much of them is the same (0 to 1)."""
    import difflib

    letters = set(bare)
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(bare)
    for word in words:
        # Cheap tests first: a large library has hundreds of thousands of words.
        if 2 * min(len(word), len(bare)) < _CUTOFF * (len(word) + len(bare)):
            continue
        if 2 * len(letters.intersection(word)) < len(letters):
            continue
        matcher.set_seq1(word)
        if matcher.quick_ratio() >= _CUTOFF and (score := matcher.ratio()) >= _CUTOFF:
            yield word, score
