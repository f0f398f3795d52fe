"""Architectures whose stacks are walked and whose variables are read."""
