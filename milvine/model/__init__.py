"""Terms and values of the domain; imports nothing of ours except errors."""
