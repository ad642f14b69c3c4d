"""What is searched: rows, columns, filters and inverted lists of one version of a collection."""
