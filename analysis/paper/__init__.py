"""A run next to the paper."""
