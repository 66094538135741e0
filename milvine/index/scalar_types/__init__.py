"""The index types of fields that are not vectors, a module each; see `scalar_type`."""
