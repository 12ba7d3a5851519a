"""The search of a run on Ray."""
