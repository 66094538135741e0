"""Collections whose rows are kept elsewhere, of which there are none: the checks of Milvus, and no jobs."""

from __future__ import annotations

from milvine.errors import ParameterInvalid, ParameterMissing
from milvine.service.context import Engine, RequestContext
from milvine.service.gate import capability, find_seen, for_every_user


@capability("RefreshExternalCollection", on="name")
def refresh(engine: Engine, context: RequestContext, name: str, source: str, spec: str) -> None:
    """Raises ParameterInvalid for every collection, since none is external."""
    if bool(source) != bool(spec):
        raise ParameterInvalid(
            "external_source and external_spec must be both provided or both omitted on refresh "
            f'(got source="{source}", spec="{spec}")'
        )
    _refuse(engine, context, name)


@for_every_user()
def refresh_progress(engine: Engine, context: RequestContext, job_id: int) -> None:
    """Raises ParameterInvalid, since there is no job."""
    if not job_id:
        raise ParameterMissing("job_id is required")
    raise ParameterInvalid(f"refresh job {job_id} not found")


@for_every_user()
def list_refresh_jobs(engine: Engine, context: RequestContext, name: str) -> None:
    """Returns if no collection is named: there are no jobs."""
    if name:
        _refuse(engine, context, name)


def _refuse(engine: Engine, context: RequestContext, name: str) -> None:
    find_seen(engine, context, name)
    raise ParameterInvalid(f"collection {name} is not an external collection")
