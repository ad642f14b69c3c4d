"""The `ebr` command: what an operator types. Knows the server through its client alone, but for `ebr serve`."""
