"""The roof: everything above put on Ray Serve."""
