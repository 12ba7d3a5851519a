"""The test set opened: figures, costs, statistics, tables."""
