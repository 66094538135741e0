"""The tokenizers: a module for each library."""
