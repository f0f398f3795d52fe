"""Completion of a command line in the shell: what stands under the cursor, and what it may become."""
