"""One segment, growing or sealed: its rows, its deletes, the view that a read sees, and search inside it."""
