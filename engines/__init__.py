"""An artifact, run."""
