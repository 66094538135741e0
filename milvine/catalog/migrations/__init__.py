"""How a catalog of an earlier version becomes one of this program's.

Whoever changes the tables, or what their JSON means, adds a module beside this one with a function that does the same
to a stored catalog, and a `Step` with the next number to the end of STEPS. A step that was released never changes.
"""

from __future__ import annotations

from milvine.catalog.migrations.upgrade import Step

STEPS: tuple[Step, ...] = ()
