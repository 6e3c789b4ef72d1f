"""Is this machine ready? What Headrace needs, looked at part by part."""
