"""The token filters: a module for each that is more than a line of `simple.py`."""
