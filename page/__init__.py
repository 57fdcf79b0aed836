"""The page that demo.py serves, its HTTP interface, and what it shares with the server of study.py."""
