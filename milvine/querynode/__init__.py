"""The read path and its memory: loaded data, its nodes, and the k best rows of all."""
