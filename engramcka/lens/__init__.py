"""LogitLens, Engram gates, and what memory is worth: models in, numbers out, no files."""
