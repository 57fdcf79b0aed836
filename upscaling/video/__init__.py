"""Videos: read frame by frame, and written in pieces."""
