"""Is the new version better? Decisions as pure functions of evidence, and the file that holds the split."""
