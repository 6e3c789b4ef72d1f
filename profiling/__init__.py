"""Where the time goes, by the tools of the field: one file for each."""
