"""What runs on the traced machine: loads the kernel module, collects its records, unloads it. Standard library only."""
