"""The catalog: one SQL database, one transaction per change, and an immutable snapshot for readers."""
