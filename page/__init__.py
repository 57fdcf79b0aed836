"""The page that demo.py serves, and its HTTP interface; nothing is loaded from elsewhere."""
