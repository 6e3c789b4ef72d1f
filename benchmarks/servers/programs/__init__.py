"""Programs that run in other servers' environments: they import nothing of ours but each other."""
