"""Probe points: the words that users write, and the places in programs that they resolve to."""
