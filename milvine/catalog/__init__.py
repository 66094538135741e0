"""What exists: one SQL database, one transaction per change, and an immutable snapshot that readers take."""
