"""all-MiniLM-L6-v2, a sentence embedding model, from its packaged weights to a served version."""
