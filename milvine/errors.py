"""All errors that callers can see, with Milvus's codes and texts.

`code` is Milvus's number, `legacy_code` the one of `common.ErrorCode` that old SDKs (and Node) read, never 0.
`retriable` and `is_input_error` are sent in the status. The two adapters use only these attributes.
Numbers and texts: Milvus's pkg/util/merr/errors.go.
"""

from __future__ import annotations

import errno
from decimal import Decimal
from enum import IntEnum

_QUOTED_CHARACTERS = 16_384


def excerpt(text: str) -> str:
    """A caller's text for a message: as sent, or only both ends of a very long one."""
    if len(text) <= _QUOTED_CHARACTERS:
        return text
    half = _QUOTED_CHARACTERS // 2
    return f"{text[:half]} ... {text[-half:]}"


class MilvineError(Exception):
    """Base of all errors that reach a caller."""

    code = 65535
    legacy_code = 1
    retriable = False
    is_input_error = False
    text = "unexpected error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(self.text if message is None else message)

    @property
    def message(self) -> str:
        return str(self.args[0])

    def prefixed(self, prefix: str) -> MilvineError:
        """The same error with a cause or place before its text, as Go prints wrapped errors."""
        error = restored(type(self), f"{prefix}: {self.message}", self.__dict__)
        error.__cause__ = self
        return error

    def __reduce__(self) -> tuple[object, ...]:
        # By default unpickling calls the class with the whole text, which most classes would word once more.
        return restored, (type(self), self.message, self.__dict__)


def restored(kind: type[MilvineError], message: str, attributes: dict[str, object]) -> MilvineError:
    """An error of another process, with its whole text."""
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(attributes)
    return error


def _bracketed(text: str, **fields: object) -> str:
    return text + "".join(f"[{name}={value}]" for name, value in fields.items())


def _go_float(value: float) -> str:
    """A number as Go prints it."""
    digits = Decimal(repr(value)).normalize()
    exponent = digits.adjusted()
    if -4 <= exponent < 6:
        return f"{digits:f}"
    return f"{digits.scaleb(-exponent):f}e{exponent:+03d}"


class InputError(MilvineError):
    is_input_error = True


class UnexpectedError(MilvineError):
    """Milvus's plain errors, without their own code (65535)."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


STANDBY, ABNORMAL = "StandBy", "Abnormal"
"""Milvus's names of states."""


class ServiceNotReady(MilvineError):
    """A head that waits for its turn, or that may not answer any more."""

    code, legacy_code, retriable, text = 1, 25, True, "service not ready"

    def __init__(self, state: str) -> None:
        super().__init__(f"{_bracketed(self.text, proxy=1)}: {state}")
        self.state = state


class ServiceUnavailable(MilvineError):
    """An RPC that Milvus still has but does not serve."""

    code, legacy_code, retriable, text = 2, 1, True, "service unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"{self.text}: {reason}")


class MemoryLimitExceeded(MilvineError):
    """`more_bytes`: the bytes to be reserved beyond those that the caller had reserved before."""

    code, legacy_code, text = 3, 52, "memory limit exceeded"

    def __init__(self, detail: str, more_bytes: int) -> None:
        super().__init__(f"{detail}: {self.text}")
        self.more_bytes = more_bytes


class ServiceInternal(MilvineError):
    code, text = 5, "service internal error"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}: {self.text}")


class SearchTextNotIndexed(MilvineError):
    """The text of a search is to be highlighted, but the searched field is not made of texts."""

    code, text = 5, "service internal error: Search with highlight failed, input field of BM25 annsField not found"


class DiskLimitExceeded(MilvineError):
    code, legacy_code, text = 7, 54, "disk limit exceeded"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}: {self.text}")


class WriteFailed(ServiceInternal):
    """A file cannot be written for another reason than a full disk."""


def write_failure(what: object, error: OSError) -> MilvineError:
    """Why a file cannot be written."""
    text = f"cannot write {what}: {error.strerror or error}"
    return DiskLimitExceeded(text) if is_full_disk(error) else WriteFailed(text)


def is_full_disk(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class RequestRateLimited(MilvineError):
    """More requests than the server accepts at a time; a retry may succeed."""

    code, legacy_code, retriable, text = 8, 49, True, "rate limit exceeded"

    def __init__(self, what: str, limit: int, unit: str) -> None:
        super().__init__(f"{what} exceed {limit} {unit}, try again: {self.text}")


class QuotaExceeded(MilvineError):
    code, legacy_code, text = 9, 48, "quota exceeded"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}: {self.text}")


class RejectedByLimiter(MilvineError):
    """Base of the refusals that Milvus's rate limiter answers, which have another form in REST."""


class RateExceeded(RejectedByLimiter):
    """More requests than a rate of the server, a database, a collection or a partition allows."""

    code, legacy_code, retriable, text = 8, 49, True, "rate limit exceeded"

    def __init__(self, rate: float) -> None:
        detail = "request is rejected by grpc RateLimiter middleware, please retry later"
        super().__init__(f"{detail}: {_bracketed(self.text, rate=_go_float(rate))}")


class RateIsZero(QuotaExceeded, RejectedByLimiter):
    """A rate of 0 allows no request of this kind."""

    def __init__(self, kind: str) -> None:
        MilvineError.__init__(self, _bracketed(self.text, reason=f"rate type: {kind}"))


class AccessDisabled(QuotaExceeded, RejectedByLimiter):
    """A property of the database denies calls of this kind."""

    def __init__(self, reason: str) -> None:
        reason = f"access has been disabled by the administrator: {reason}"
        MilvineError.__init__(self, _bracketed(self.text, reason=reason))


class ServiceUnimplemented(MilvineError):
    code, text = 10, "service unimplemented"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}: {self.text}")


class DiskQuotaExceeded(QuotaExceeded, RejectedByLimiter):
    """A disk quota of a collection or a database is reached."""

    def __init__(self) -> None:
        reason = "disk quota exceeded, please allocate more resources"
        MilvineError.__init__(self, _bracketed(self.text, reason=reason))


class ResourceInsufficient(MilvineError):
    code, retriable, text = 12, True, "service resource insufficient"

    def __init__(self, detail: str, **fields: object) -> None:
        super().__init__(f"{detail}: {_bracketed(self.text, **fields)}")


class CollectionNotFound(InputError):
    code, legacy_code, text = 100, 4, "collection not found"

    def __init__(self, name: str, database: str | None = "default", text: str | None = None) -> None:
        """`database` None leaves its bracket out; `text` is DescribeCollection's own wording."""
        fields = {"collection": name} if database is None else {"database": database, "collection": name}
        super().__init__(_bracketed(text or self.text, **fields))


class CollectionNotLoaded(MilvineError):
    code, text = 101, "collection not loaded"

    def __init__(self, collection: object) -> None:
        super().__init__(_bracketed(self.text, collection=collection))


class CollectionNumLimitExceeded(InputError):
    code, text = 102, "exceeded the limit number of collections"

    def __init__(self, database: str, limit: int) -> None:
        super().__init__(_bracketed(self.text, dbName=database, limit=limit))


class CollectionLoaded(InputError):
    """A change that is refused while the collection is loaded."""

    code, text = 104, "collection already loaded"

    def __init__(self, collection: object, detail: str) -> None:
        super().__init__(f"{detail}: {_bracketed(self.text, collection=collection)}")


class CollectionIllegalSchema(InputError):
    code, text = 105, "illegal collection schema"

    def __init__(self, collection: object, detail: str) -> None:
        super().__init__(f"{detail}: {_bracketed(self.text, collection=collection)}")


class CollectionSchemaMismatch(InputError):
    """A write by an outdated schema. SDKs request the schema again and repeat the call."""

    code, legacy_code, text = 109, 62, "collection schema mismatch"

    def __init__(self, collection: object) -> None:
        super().__init__(_bracketed(self.text, collection=collection))


class CollectionNotFullyLoaded(MilvineError):
    code, retriable, text = 103, True, "collection not fully loaded"

    def __init__(self, collection: object) -> None:
        super().__init__(_bracketed(self.text, collection=collection))


class PartitionNotFound(InputError):
    code, legacy_code, text = 200, 15, "partition not found"

    def __init__(self, name: object) -> None:
        super().__init__(_bracketed(self.text, partition=name))


class PartitionNotLoaded(MilvineError):
    code, text = 201, "partition not loaded"

    def __init__(self, partition: object) -> None:
        super().__init__(_bracketed(self.text, partition=partition))


class GeneralCapacityExceeded(MilvineError):
    """More partitions times shards than all collections may have together."""

    code, text = 250, "general capacity exceeded"

    def __init__(self, size: int, capacity: int) -> None:
        fields = _bracketed(self.text, newGeneralSize=size, generalCapacity=capacity)
        detail = "failed checking constraint: sum_collections(parition*shard) exceeding the max general capacity:"
        super().__init__(f"{detail}: {fields}")


class ResourceGroupNotFound(InputError):
    code, text = 300, "resource group not found"

    def __init__(self, name: str) -> None:
        super().__init__(_bracketed(self.text, rg=name))


class ResourceGroupAlreadyExist(InputError):
    code, text = 301, "resource group already exist, but create with different config"

    def __init__(self, name: str) -> None:
        super().__init__(_bracketed(self.text, rg=name))


class ResourceGroupReachLimit(InputError):
    code, text = 302, "resource group num reach limit"

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(_bracketed(self.text, rg=name, limit=limit))


class ResourceGroupIllegalConfig(InputError):
    code, text = 303, "resource group illegal config"

    def __init__(self, detail: str, name: str, config: object) -> None:
        super().__init__(f"{detail}: {_bracketed(self.text, rg=name, config=config)}")


class ResourceGroupNodeNotEnough(MilvineError):
    code, text = 304, "resource group node not enough"

    def __init__(self, name: str, current: int, expected: int) -> None:
        super().__init__(_bracketed(self.text, rg=name, currentNodeNum=current, expectedNodeNum=expected))


class ChannelTSafeStalled(MilvineError):
    """A read at a timestamp too far in the future."""

    code, retriable, text = 505, True, "channel tsafe stalled"

    def __init__(self, channel: object, lag_ms: int, max_lag_ms: int) -> None:
        super().__init__(f"lag({lag_ms}ms) max({max_lag_ms}ms): {_bracketed(self.text, channel=channel)}")


class SegmentNotFound(MilvineError):
    code, legacy_code, text = 600, 47, "segment not found"

    def __init__(self, segment_id: int, detail: str) -> None:
        super().__init__(f"{detail}: {_bracketed(self.text, segment=segment_id)}")


class SegmentRequestResourceFailed(MilvineError):
    """Loading did not fit; `resource` is Memory or Disk."""

    code, text = 605, "segment request resource failed"

    def __init__(self, resource: str, detail: str = "") -> None:
        message = _bracketed(self.text, resourceType=resource)
        super().__init__(f"{message}: {detail}" if detail else message)


class IndexNotFound(MilvineError):
    code, legacy_code, text = 700, 25, "index not found"

    def __init__(self, **fields: object) -> None:
        super().__init__(_bracketed(self.text, **fields))


class IndexDuplicate(InputError):
    code, text = 702, "index duplicates"

    def __init__(self, index_name: str, detail: str = "") -> None:
        message = _bracketed(self.text, indexName=index_name)
        super().__init__(f"{detail}: {message}" if detail else message)


class DatabaseNotFound(InputError):
    code, text = 800, "database not found"

    def __init__(self, name: str) -> None:
        super().__init__(_bracketed(self.text, database=name))


class DatabaseNumLimitExceeded(InputError):
    code, text = 801, "exceeded the limit number of database"

    def __init__(self, limit: int) -> None:
        super().__init__(_bracketed(self.text, limit=limit))


class DatabaseNameInvalid(InputError):
    code, text = 802, "invalid database name"

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{detail}: {_bracketed(self.text, database=name)}")


class NodeNotFound(MilvineError):
    code, text = 901, "node not found"

    def __init__(self, node: int, detail: str) -> None:
        super().__init__(f"{detail}: {_bracketed(self.text, node=node)}")


class IoFailed(MilvineError):
    """The object store cannot be reached or refuses; a later try may succeed."""

    code, text = 1001, "IO failed"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}: {self.text}")


class DataIntegrityError(MilvineError):
    """One of our files is torn, flipped or of an unknown version; the text names it."""

    code, text = 1009, "data integrity check failed"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}: {self.text}")


class ParameterInvalid(InputError):
    """`TEXT: invalid parameter`, or `invalid parameter[expected=E][actual=A]` after an optional prefix."""

    code, legacy_code, text = 1100, 5, "invalid parameter"

    def __init__(self, detail: str = "", *, expected: object = None, actual: object = None) -> None:
        message = self.text
        if expected is not None or actual is not None:
            message = _bracketed(message, expected=expected, actual=actual)
        super().__init__(f"{detail}: {message}" if detail else message)


class ParameterOutOfRange(ParameterInvalid):
    """`TEXT: invalid parameter[V out of range LOW <= value <= HIGH]`."""

    def __init__(self, detail: str, value: object, low: object, high: object) -> None:
        MilvineError.__init__(self, f"{detail}: {self.text}[{value} out of range {low} <= value <= {high}]")


class ParameterMissing(InputError):
    code, legacy_code, text = 1101, 5, "missing parameter"

    def __init__(self, detail: str, **fields: object) -> None:
        super().__init__(f"{detail}: {_bracketed(self.text, **fields)}")


class ParameterTooLarge(InputError):
    code, text = 1102, "parameter too large"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}: {self.text}")


class AliasNotFound(InputError):
    code, text = 1600, "alias not found"

    def __init__(self, database: str, alias: str) -> None:
        super().__init__(_bracketed(self.text, database=database, alias=alias))


class AliasCollectionNameConflict(InputError):
    code, text = 1601, "alias and collection name conflict"

    def __init__(self, database: str, alias: str) -> None:
        super().__init__(_bracketed(self.text, database=database, alias=alias))


class AliasAlreadyExist(MilvineError):
    code, text = 1602, "alias already exist"

    def __init__(self, database: str, alias: str, detail: str) -> None:
        super().__init__(f"{detail}: {_bracketed(self.text, database=database, alias=alias)}")


class SnapshotNotFound(MilvineError):
    code, text = 2600, "snapshot not found"

    def __init__(self, name: str, collection_id: int = 0) -> None:
        message = _bracketed(self.text, snapshot=name)
        super().__init__(f"collection {collection_id}: {message}" if collection_id else message)


class SnapshotPinned(MilvineError):
    code, text = 2601, "snapshot is pinned"

    def __init__(self, name: str) -> None:
        super().__init__(f"active pins exist, unpin before dropping: {_bracketed(self.text, snapshot=name)}")


class RestoreJobNotFound(MilvineError):
    """Milvus's failure of imports, whose code it takes for restores, too."""

    code, text = 2100, "importing data failed"

    def __init__(self, job_id: int, kind: str = "restore") -> None:
        super().__init__(f"{kind} job not found: jobID={job_id}: {self.text}")


class UserAlreadyExists(ParameterInvalid):
    legacy_code = 29

    def __init__(self, name: str) -> None:
        super().__init__(f"user already exists: {name}")


class UserNotFound(MilvineError):
    legacy_code, text = 30, "user not found"


class ApiKeyAlreadyExists(ParameterInvalid):
    def __init__(self, user: str, name: str) -> None:
        super().__init__(f"API key already exists: {name} of {user}")


class ApiKeyNotFound(ParameterInvalid):
    def __init__(self, user: str, name: str) -> None:
        super().__init__(f"API key not found: {name} of {user}")


class PrivilegeNotAuthenticated(InputError):
    code, text = 1400, "not authenticated"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}: {self.text}")


class PrivilegeNotPermitted(InputError):
    code, text = 1401, "privilege not permitted"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}: {self.text}")


class PrivilegeGroupNameInvalid(InputError):
    code, text = 1402, "invalid privilege group name"

    def __init__(self, name: str, detail: str = "") -> None:
        message = _bracketed(self.text, privilegeGroup=name)
        super().__init__(f"{detail}: {message}" if detail else message)


class PermissionDenied(MilvineError):
    """A user lacks a privilege. gRPC answers with its own status, REST with 403."""

    def __init__(self, privilege: str, user: str, database: str) -> None:
        super().__init__(f"Privilege{privilege}: permission deny to {user} in the `{database}` database")


class RestPermissionDenied(MilvineError):
    """REST's form of PermissionDenied."""

    def __init__(self, error: PermissionDenied) -> None:
        super().__init__(f"rpc error: code = PermissionDenied desc = {error.message}")


class Failure(IntEnum):
    """Legacy codes of refused changes to roles and privileges."""

    UNEXPECTED = 1
    CREATE_ROLE = 35
    DROP_ROLE = 36
    OPERATE_USER_ROLE = 37
    OPERATE_PRIVILEGE = 41
    SELECT_GRANT = 42
    CREATE_GROUP = 58
    DROP_GROUP = 59
    OPERATE_GROUP = 61


class AccessChangeRefused(ParameterInvalid):
    """A change to roles and privileges, or a look at them, that is refused."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.legacy_code = int(failure)


class FieldNotFound(InputError):
    code, text = 1700, "field not found"

    def __init__(self, name: str, detail: str = "") -> None:
        message = _bracketed(self.text, field=name)
        super().__init__(f"{detail}: {message}" if detail else message)


class FieldNameInvalid(InputError):
    code, text = 1701, "field name invalid"

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{detail}: {_bracketed(self.text, field=name)}")


class FunctionFailed(MilvineError):
    code, text = 2400, "function execution failed"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}: {self.text}")


class RestIdsInvalid(ParameterInvalid):
    """Ids of a search that are not of the key's type."""

    def __init__(self, detail: str) -> None:
        MilvineError.__init__(self, f"{self.text}, error: {detail}")


class RestIdsAndData(ParameterInvalid):
    text = (
        "primary keys (ids) and query vectors (data) are mutually exclusive. "
        "Please provide either 'ids' or 'data', not both"
    )

    def __init__(self) -> None:
        MilvineError.__init__(self)


class RestNeedAuthenticate(InputError):
    code, text = 1800, "user hasn't authenticated"


class RestBadJson(InputError):
    code, text = 1801, "can only accept json format request"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{self.text}, {detail}")


class RestBadMediaType(RestBadJson):
    """A body whose content type is not JSON."""

    def __init__(self, media_type: str) -> None:
        super().__init__(f"error: a body of type {media_type} is refused, send application/json")


class RestForbidden(PrivilegeNotPermitted):
    """A request from a web page of another site, or with a foreign host name."""


class RestMissingParameters(InputError):
    code, text = 1802, "missing required parameters"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{self.text}, error: {detail}")


class RestMissingAny(RestMissingParameters):
    """The form of REST v1, which names all parameters that a route requires."""

    def __init__(self, required: str) -> None:
        MilvineError.__init__(self, f"{self.text}, required parameters: [{required}]")


class RestInvalidInsertData(InputError):
    code, text = 1804, "fail to deal the insert data"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{self.text}, error: {detail}")


class RestCheckPrimaryKey(InputError):
    """Ids of `get` that are not of the key's type."""

    code, text = 1806, "please check the primary key and its' type can only in [int, string]"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{self.text}, error: {detail}")


class RestDatabaseNotFound(DatabaseNotFound):
    """REST v1's form of DatabaseNotFound."""

    def __init__(self, name: str) -> None:
        MilvineError.__init__(self, f"{self.text}, database: {name}")


class RestCollectionNotFound(CollectionNotFound):
    """The form of REST v1 when a collection to drop does not exist."""

    def __init__(self, name: str, database: str) -> None:
        MilvineError.__init__(self, f"{self.text}, database: {database}, collection: {name}")


class RestRejected(MilvineError):
    """REST's form of RejectedByLimiter."""

    code, retriable, text = 1807, True, "request is rejected by limiter"

    def __init__(self, error: RejectedByLimiter) -> None:
        super().__init__(f"{self.text}, error: {error.message}")


class RestV1Rejected(MilvineError):
    """REST v1's form of RejectedByLimiter, with the text twice."""

    retriable = True

    def __init__(self, error: RejectedByLimiter) -> None:
        super().__init__(f"{error.message}, error: {error.message}")
        self.code = error.code


class ImportFailed(InputError):
    """Files or a request that cannot be imported."""

    code, text = 2100, "importing data failed"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}: {self.text}")


class ImportSysFailed(MilvineError):
    """An import that fails for other reasons than its files."""

    code, text = 2101, "importing data failed on server side"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}: {self.text}")


class MetricNotFound(MilvineError):
    code, text = 1200, "metric not found"

    def __init__(self, name: str) -> None:
        super().__init__(_bracketed(self.text, metric=name))


class FieldIndexNotLoaded(MilvineError):
    """A search on a vector that has no index."""

    code, retriable, text = 2000, True, "segcore error"

    def __init__(self, field_name: str) -> None:
        where = _bracketed(self.text, segcoreCode=2027)
        super().__init__(f"field index of the field: {field_name} is not loaded, please reload the collection: {where}")


class AnalyzerInvalid(MilvineError):
    """Parameters of which no analyzer can be made."""

    code, text = 2000, "segcore error"

    def __init__(self, detail: str) -> None:
        super().__init__(f"Tokenizer creation failed: {detail}: {_bracketed(self.text, segcoreCode=2001)}")


class TreeModelInvalid(InputError):
    """A file that is no model of boosted trees."""

    code, text = 2000, "segcore error"

    def __init__(self, detail: str) -> None:
        super().__init__(f"xgboost: {detail}: {_bracketed(self.text, segcoreCode=2042)}")


class RequestTimeout(MilvineError):
    code, retriable, text = 10001, True, "request timeout"
