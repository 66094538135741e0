"""What a caller may do: one plain function per capability, without protobuf, JSON bodies or SQL."""
