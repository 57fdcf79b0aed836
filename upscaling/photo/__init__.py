"""Photographs: read with all that they hold, and written again."""
