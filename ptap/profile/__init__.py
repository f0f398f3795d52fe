"""Many stacks at once: a tree of calls that traces are added to, and the formats that such a tree is written in."""
