"""Indexes: from vectors to nearest rows, and from values to rows; their types and parameters, on faiss."""
