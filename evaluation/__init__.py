"""The benchmark sets, metrics, published numbers, grids and the table of results."""
