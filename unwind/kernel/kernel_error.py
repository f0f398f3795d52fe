"""What makes it impossible to name addresses of a kernel."""


class KernelError(Exception):
    """The text says what is missing or does not belong together, and what to do."""
