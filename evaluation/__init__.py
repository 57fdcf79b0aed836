"""Metrics, the published numbers and the table of results."""
