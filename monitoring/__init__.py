"""What a process does, counted by the second; many processes as one; spans and log lines."""
