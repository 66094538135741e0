"""The module that the front imports."""

from milvine.process import imports_kept

with imports_kept():
    from milvine.wsgi import application

__all__ = ["application"]
