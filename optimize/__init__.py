"""A model made smaller and faster, offline, within an accuracy budget."""
