"""The operations of callers: one plain function each, without protobuf, JSON bodies or SQL."""
