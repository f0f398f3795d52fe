"""From a capture to frames: walking stacks, and naming what was found in them."""
