"""How a catalog of an earlier version becomes one of this program's.

A change of the tables, or of the members or the meaning of their JSON, comes with a module beside this one, whose
function makes the same change to a stored catalog, and with a `Step` of the next number at the end of STEPS. The number
also keeps earlier programs from opening what they cannot read. A step that was released never changes.
"""

from __future__ import annotations

from milvine.catalog.migrations.api_keys import add_api_keys
from milvine.catalog.migrations.backup_runs import add_backup_runs
from milvine.catalog.migrations.dropped_fields import add_dropped_fields
from milvine.catalog.migrations.file_resources import add_file_resources
from milvine.catalog.migrations.functions import add_functions
from milvine.catalog.migrations.history import add_history
from milvine.catalog.migrations.import_jobs import add_import_jobs
from milvine.catalog.migrations.roles import add_roles
from milvine.catalog.migrations.snapshots import add_snapshots
from milvine.catalog.migrations.upgrade import Step

STEPS: tuple[Step, ...] = (
    Step(4, add_dropped_fields),
    Step(5, add_roles),
    Step(6, add_api_keys),
    Step(7, add_functions),
    Step(8, add_file_resources),
    Step(9, add_snapshots),
    Step(10, add_import_jobs),
    Step(11, add_history),
    Step(12, add_backup_runs),
)
