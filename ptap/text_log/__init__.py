"""Stack traces in the text of logs: which of a line's words are frames, what they name, and the line with that told."""
