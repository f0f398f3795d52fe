"""Addresses of a kernel and its modules as they are loaded → the files that they were loaded from."""
