"""From addresses to functions, files, lines and inlined calls."""
