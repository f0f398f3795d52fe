"""Which traces of a run are wanted: the predicates on it, and what the probe has decided already."""

from __future__ import annotations

from ptap.account import Account
from ptap.predicate.expression import Predicate
from ptap.predicate.knowledge import Knowledge, knowledge_of
from ptap.predicate.trace_verdict import trace_verdict
from ptap.predicate.verdict import both
from relay_reader.capture import Sample
from relay_reader.predicate_layout import Verdict
from relay_reader.record_layout import HitFlag
from unwind.trace import Trace
from unwind.trace_builder import Hit


class WantedTraces:
    """Decides trace by trace, and counts in `account`; what stays undecided is wanted, and marked.

    `predicate` is decided here. `at_probe` was decided by the kernel module, but for the records that say otherwise.
    """

    def __init__(self, account: Account, predicate: Predicate | None = None, at_probe: Predicate | None = None) -> None:
        self._account = account
        self._predicate = predicate
        self._at_probe = at_probe
        if predicate is not None or at_probe is not None:
            account.unwanted = account.unwanted or 0

    def is_wanted(self, trace: Trace, sample: Sample, hit: Hit | None) -> bool:
        """Whether the trace that was made of `sample` is to be shown."""
        if self._predicate is None and self._at_probe is None:
            return True
        verdict = self._verdict(trace, sample, knowledge_of(trace, sample, hit))
        if verdict is Verdict.FALSE:
            self._account.unwanted = (self._account.unwanted or 0) + 1
        elif verdict is Verdict.UNKNOWN:
            self._account.undecided += 1
            trace.undecided = True
        return verdict is not Verdict.FALSE

    def _verdict(self, trace: Trace, sample: Sample, knowledge: Knowledge) -> Verdict:
        found = Verdict.TRUE
        recorded = sample.kernel_stack or sample.user_stack
        if self._at_probe is not None and not (recorded is not None and recorded.flags & HitFlag.WANTED):
            found = trace_verdict(self._at_probe, trace, knowledge)
        if self._predicate is not None:
            found = both(found, trace_verdict(self._predicate, trace, knowledge))
        return found
