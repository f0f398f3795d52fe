"""Reports: traces as text and as JSON Lines."""
