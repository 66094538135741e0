"""Milvine: the Milvus vector database in one Python process."""

__version__ = "0.1.0"
MILVUS_VERSION = "v2.6.4"
"""The answer of GetVersion: the 2.5 and 2.6 SDKs gate features on a Milvus-style version."""
