"""Studies: a grid of cells, kept in one file."""
