"""Answers remembered: right first, then fast."""
