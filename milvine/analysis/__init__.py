"""Texts into terms, as Milvus's analyzers do: a tokenizer, then filters."""
