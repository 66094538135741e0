"""Words and values of the field; imports nothing of ours but errors."""
