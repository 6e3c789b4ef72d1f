"""The ground floor: the nouns every other package shares."""

__version__ = "0.2.0"
