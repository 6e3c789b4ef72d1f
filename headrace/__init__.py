"""The ground floor: the nouns every other package shares."""

__version__ = "0.1.0"
