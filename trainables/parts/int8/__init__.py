"""INT8: the grid, the graph, the kernels' model."""
