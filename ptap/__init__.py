"""The command: probe points, capture back ends, reports."""
