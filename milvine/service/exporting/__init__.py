"""Exports: the rows of a collection or of a snapshot, as they are at one moment, page by page in columns of Arrow."""
