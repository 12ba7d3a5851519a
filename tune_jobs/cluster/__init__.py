"""The Ray cluster, and what a trial may ask of it."""
