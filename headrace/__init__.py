"""The ground floor: the nouns every other package shares."""
