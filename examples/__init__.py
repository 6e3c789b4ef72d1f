"""Programs a newcomer can copy; a test runs each."""
