"""The page that demo.py serves, and its HTTP call; nothing is loaded from elsewhere."""
