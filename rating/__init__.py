"""The rating test: what study.py stands on."""
