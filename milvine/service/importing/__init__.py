"""Imports: files of rows become sealed segments, read in a child process and committed at once."""
