"""The read path and its memory: what is loaded, on which node, and the k best of all of it."""
