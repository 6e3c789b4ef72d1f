"""From single requests to full batches."""
