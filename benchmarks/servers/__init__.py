"""The servers that a benchmark compares: how each is installed, started with a set-up, asked and ended."""
