"""Roles and privileges: who may do what, over gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from conftest import Server, ServerFactory
from grpc_calls import (
    assert_ok,
    assert_refused,
    create_request,
    field,
    insert_request,
    query_request,
    scalars,
    search_request,
    vectors,
)
from key_calls import make_key
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from role_calls import (
    METHODS,
    PASSWORD,
    ROOT,
    WITH_AUTHORIZATION,
    as_user,
    bind,
    by_token,
    create_role,
    create_user,
    denial,
    drop_role,
    drop_user,
    encoded,
    grant,
    grant_v1,
    grants,
    need_of,
    roles_of,
)

from milvine.grpc_api.servicer import RPCS

NAMED = milvus_pb2.DescribeCollectionRequest
PUBLIC = {"DescribeCollection", "IndexDetail", "ListAliases"}


class As:
    """The stub of one user, in a database."""

    def __init__(self, server: Server, name: str, password: str = PASSWORD, database: str = "") -> None:
        self._stub = server.stub
        self._options = as_user(name, password, database)

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._stub, method)
        return lambda request: call(request, **self._options)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the loaded collections `mine` and `theirs`, `theirs` in database `other` too, and `stranger`."""
    with Server(tmp_path_factory.mktemp("guarded"), env=WITH_AUTHORIZATION).running() as server:
        stub = server.stub
        assert_ok(stub.CreateDatabase(milvus_pb2.CreateDatabaseRequest(db_name="other"), **ROOT))
        for name, database in (("mine", "default"), ("theirs", "default"), ("theirs", "other")):
            make_collection(stub, name, database)
        create_user(stub, "stranger")
        yield server


def make_collection(stub: Any, name: str, database: str = "default") -> None:
    fields = [field("id", schema_pb2.Int64, primary=True), field("vec", schema_pb2.FloatVector, dim=2)]
    assert_ok(stub.CreateCollection(create_request(name, fields, db_name=database), **ROOT))
    index = milvus_pb2.CreateIndexRequest(db_name=database, collection_name=name, field_name="vec")
    index.extra_params.add(key="index_type", value="FLAT")
    index.extra_params.add(key="metric_type", value="L2")
    assert_ok(stub.CreateIndex(index, **ROOT))
    assert_ok(stub.LoadCollection(milvus_pb2.LoadCollectionRequest(db_name=database, collection_name=name), **ROOT))


def drop_collection(stub: Any, name: str, database: str = "default") -> None:
    assert_ok(stub.DropCollection(milvus_pb2.DropCollectionRequest(db_name=database, collection_name=name), **ROOT))


def one_row(name: str) -> Any:
    return insert_request(name, 1, scalars("id", schema_pb2.Int64, [1]), vectors("vec", [[0.0, 1.0]]))


@pytest.fixture
def member(guarded: Server) -> Iterator[str]:
    """The name of a user with the role `team`, which has no grants."""
    create_user(guarded.stub, "ann")
    assert_ok(create_role(guarded.stub, "team"))
    assert_ok(bind(guarded.stub, "ann", "team"))
    yield "ann"
    drop_user(guarded.stub, "ann")
    assert_ok(drop_role(guarded.stub, "team", force=True))


def _smallest_request(method: str) -> Any:
    """A request that is decoded and names the object `c`."""
    request = getattr(milvus_pb2, METHODS[method].input_type.name)()
    need = need_of(method)
    if need is not None and need.name_field:
        if need.is_list:
            getattr(request, need.name_field).append("c")
        elif request.DESCRIPTOR.fields_by_name[need.name_field].message_type:
            getattr(request, need.name_field).name = "c"
        else:
            setattr(request, need.name_field, "c")
    if method == "Search":
        return search_request("c", [[0.0, 1.0]])
    if method == "AddCollectionField":
        request.schema = field("new", schema_pb2.Int64, nullable=True).SerializeToString()
    elif method == "AlterCollectionSchema":
        request.action.add_request.field_infos.add().field_schema.CopyFrom(
            field("new", schema_pb2.Int64, nullable=True)
        )
    elif method == "AlterCollectionFunction":
        request.functionSchema.type = schema_pb2.FunctionType.BM25
    elif method == "OperatePrivilegeV2":
        request.role.name = "admin"
    elif method in ("OperatePrivilege", "SelectGrant"):
        request.entity.role.name, request.entity.object.name = "admin", "Global"
        if method == "OperatePrivilege":
            request.entity.grantor.privilege.name = "All"
    elif method == "BatchDescribeCollection":
        request.collection_name.append("c")
    return request


@pytest.fixture(scope="module")
def limited(guarded: Server) -> dict[str, Any]:
    """By a key of root that is limited to the role `public`."""
    return by_token(make_key(guarded.uri, "root", roles=["public"]))


@pytest.mark.parametrize("user", ["stranger", "root"])
@pytest.mark.parametrize("method", sorted(RPCS))
def test_a_caller_without_a_role_has_only_what_milvus_gives_every_user(
    guarded: Server, limited: dict[str, Any], method: str, user: str
) -> None:
    """Root calls by a limited key."""
    need = need_of(method)
    caller = as_user("stranger") if user == "stranger" else limited
    said = denial(getattr(guarded.stub, method), _smallest_request(method), **caller)
    if need is None or need.privilege in PUBLIC:
        assert said == ""
    else:
        assert said.startswith(f"Privilege{need.privilege}: permission deny to {user} in the `")


def test_the_denial_names_the_privilege_the_user_and_the_database(guarded: Server) -> None:
    stub, stranger = guarded.stub, as_user("stranger", database="other")
    insert = milvus_pb2.InsertRequest(collection_name="theirs")
    assert denial(stub.Insert, insert, **stranger) == (
        "PrivilegeInsert: permission deny to stranger in the `other` database"
    )
    create = milvus_pb2.CreateDatabaseRequest(db_name="new")
    assert denial(stub.CreateDatabase, create, **stranger) == (
        "PrivilegeCreateDatabase: permission deny to stranger in the `*` database"
    )


def test_a_denial_does_not_tell_whether_the_object_exists(guarded: Server) -> None:
    stranger = as_user("stranger")
    for request, call in (
        (milvus_pb2.GetLoadStateRequest, guarded.stub.GetLoadState),
        (milvus_pb2.ShowPartitionsRequest, guarded.stub.ShowPartitions),
        (milvus_pb2.DropCollectionRequest, guarded.stub.DropCollection),
    ):
        there, missing = (denial(call, request(collection_name=name), **stranger) for name in ("theirs", "nothing"))
        assert there == missing != ""


@pytest.mark.parametrize(
    ("method", "request_class"),
    [
        ("DescribeCollection", milvus_pb2.DescribeCollectionRequest),
        ("DescribeIndex", milvus_pb2.DescribeIndexRequest),
        ("ListAliases", milvus_pb2.ListAliasesRequest),
        ("GetReplicas", milvus_pb2.GetReplicasRequest),
    ],
)
def test_what_one_may_not_see_looks_as_if_it_were_not_there(guarded: Server, method: str, request_class: Any) -> None:
    stranger = As(guarded, "stranger")
    there, missing = (getattr(stranger, method)(request_class(collection_name=n)) for n in ("theirs", "nothing"))
    assert (there.status.code, missing.status.code) == (100, 100)
    assert there.status.reason.replace("theirs", "nothing") == missing.status.reason
    segments = milvus_pb2.GetPersistentSegmentInfoRequest
    assert_refused(stranger.GetPersistentSegmentInfo(segments(collectionName="theirs")), 100, "collection not found")
    assert not assert_ok(stranger.HasCollection(milvus_pb2.HasCollectionRequest(collection_name="theirs"))).value
    by_id = milvus_pb2.DescribeCollectionRequest(collectionID=_id(guarded, "theirs"))
    assert_refused(stranger.DescribeCollection(by_id), 100, "can't find collection")


def _id(server: Server, name: str, database: str = "default") -> int:
    request = milvus_pb2.DescribeCollectionRequest(db_name=database, collection_name=name)
    number: int = assert_ok(server.stub.DescribeCollection(request, **ROOT)).collectionID
    return number


def test_a_grant_on_one_collection_opens_that_one_only(guarded: Server, member: str) -> None:
    ann = As(guarded, member)
    assert_ok(grant(guarded.stub, "team", "CollectionReadWrite", "mine", "default"))
    assert_ok(ann.Insert(one_row("mine")))
    assert_ok(ann.Query(query_request("mine", "id >= 0")))
    assert "PrivilegeInsert" in denial(ann.Insert, one_row("theirs"))
    assert "PrivilegeDropCollection" in denial(ann.DropCollection, NAMED(collection_name="mine"))
    in_other = one_row("mine")
    in_other.db_name = "other"
    assert denial(ann.Insert, in_other) == "PrivilegeInsert: permission deny to ann in the `other` database"
    assert_ok(grant(guarded.stub, "team", "CollectionReadWrite", "mine", "default", revoke=True))
    assert "PrivilegeInsert" in denial(ann.Insert, one_row("mine"))


def test_listings_show_what_one_may_see(guarded: Server, member: str) -> None:
    ann, stub = As(guarded, member), guarded.stub

    def seen() -> tuple[list[str], list[str]]:
        collections = assert_ok(ann.ShowCollections(milvus_pb2.ShowCollectionsRequest())).collection_names
        return sorted(collections), list(assert_ok(ann.ListDatabases(milvus_pb2.ListDatabasesRequest())).db_names)

    assert seen() == ([], [])
    assert_ok(grant(stub, "team", "Search", "mine", "default"))
    assert seen() == (["mine"], ["default"])
    assert_ok(grant(stub, "team", "Search", "theirs", "other"))
    assert seen() == (["mine"], ["default", "other"])
    assert_ok(grant(stub, "team", "CollectionReadOnly", "*", "*"))
    assert seen() == (["mine", "theirs"], ["default", "other"])
    everything = assert_ok(stub.ShowCollections(milvus_pb2.ShowCollectionsRequest(), **ROOT)).collection_names
    assert sorted(everything) == ["mine", "theirs"]


def test_segments_and_memory_of_unseen_collections_stay_hidden(guarded: Server, member: str) -> None:
    ann, stub = As(guarded, member), guarded.stub
    assert_ok(grant(stub, "team", "Search", "mine", "default"))
    by_id = milvus_pb2.GetReplicasRequest(collectionID=_id(guarded, "theirs"))
    assert not assert_ok(ann.GetReplicas(by_id)).replicas
    mine = milvus_pb2.GetReplicasRequest(collectionID=_id(guarded, "mine"))
    assert len(assert_ok(ann.GetReplicas(mine)).replicas) == 1
    loaded = milvus_pb2.GetQuerySegmentInfoRequest(collectionName="theirs")
    assert_refused(ann.GetQuerySegmentInfo(loaded), 100, "collection not found")


def test_the_state_of_a_flush_of_named_collections_hides_unseen_ones(guarded: Server) -> None:
    stranger = As(guarded, "stranger")

    def asked(name: str) -> Any:
        target = milvus_pb2.FlushAllTarget(db_name="default", collection_names=[name])
        return stranger.GetFlushAllState(milvus_pb2.GetFlushAllStateRequest(flush_all_ts=1, flush_targets=[target]))

    there, missing = asked("theirs").status, asked("nothing").status
    assert (there.code, missing.code) == (100, 100)
    assert there.reason.replace("theirs", "nothing") == missing.reason


def test_an_alias_opens_nothing_that_its_collection_does_not(guarded: Server, member: str) -> None:
    ann, stub = As(guarded, member), guarded.stub
    assert_ok(grant(stub, "team", "Insert", "mine", "default"))
    assert_ok(grant(stub, "team", "Insert", "spare", "default"))
    alias = milvus_pb2.CreateAliasRequest(collection_name="theirs", alias="spare")
    assert_ok(stub.CreateAlias(alias, **ROOT))
    assert "PrivilegeInsert" in denial(ann.Insert, one_row("spare"))
    moved = milvus_pb2.AlterAliasRequest(collection_name="mine", alias="spare")
    assert_ok(stub.AlterAlias(moved, **ROOT))
    assert_ok(ann.Insert(one_row("spare")))
    assert_ok(stub.DropAlias(milvus_pb2.DropAliasRequest(alias="spare"), **ROOT))


def test_a_grant_on_an_alias_is_one_on_its_collection(guarded: Server, member: str) -> None:
    ann, stub = As(guarded, member), guarded.stub
    assert_ok(stub.CreateAlias(milvus_pb2.CreateAliasRequest(collection_name="mine", alias="pen"), **ROOT))
    assert_ok(grant(stub, "team", "Insert", "pen", "default"))
    assert [g.object_name for g in assert_ok(grants(stub, "team")).entities] == ["mine"]
    assert_ok(ann.Insert(one_row("mine")))
    assert_ok(stub.DropAlias(milvus_pb2.DropAliasRequest(alias="pen"), **ROOT))


def test_renaming_into_another_database_needs_the_privilege_everywhere(guarded: Server, member: str) -> None:
    ann, stub = As(guarded, member), guarded.stub
    make_collection(stub, "wanderer")
    assert_ok(grant(stub, "team", "RenameCollection", "*", "default"))

    def rename(old: str, new: str, **others: str) -> Any:
        return milvus_pb2.RenameCollectionRequest(oldName=old, newName=new, **others)

    assert_ok(ann.RenameCollection(rename("wanderer", "roamer")))
    assert "in the `*` database" in denial(ann.RenameCollection, rename("roamer", "roamer", newDBName="other"))
    assert "in the `other` database" in denial(ann.RenameCollection, rename("theirs", "taken", db_name="other"))
    assert_ok(grant(stub, "team", "RenameCollection"))
    assert_ok(ann.RenameCollection(rename("roamer", "roamer", newDBName="other")))
    drop_collection(stub, "roamer", "other")


def test_an_id_of_a_collection_in_another_database_needs_the_privilege_there(guarded: Server, member: str) -> None:
    ann, stub = As(guarded, member), guarded.stub
    assert_ok(grant(stub, "team", "Compaction", "*", "default"))
    assert_ok(ann.ManualCompaction(milvus_pb2.ManualCompactionRequest(collectionID=_id(guarded, "theirs"))))
    foreign = milvus_pb2.ManualCompactionRequest(collectionID=_id(guarded, "theirs", "other"))
    assert "in the `other` database" in denial(ann.ManualCompaction, foreign)
    assert "PrivilegeCompaction" in denial(As(guarded, "stranger").ManualCompaction, foreign)


def test_flushing_several_collections_needs_the_privilege_on_each(guarded: Server, member: str) -> None:
    ann, stub = As(guarded, member), guarded.stub
    assert_ok(grant(stub, "team", "Flush", "mine", "default"))
    assert_ok(ann.Flush(milvus_pb2.FlushRequest(collection_names=["mine"])))
    for names in (["mine", "theirs"], ["theirs", "mine"], []):
        assert "PrivilegeFlush" in denial(ann.Flush, milvus_pb2.FlushRequest(collection_names=names))


def test_a_search_iterator_is_checked_at_each_page(guarded: Server, member: str) -> None:
    ann, stub = As(guarded, member), guarded.stub
    assert_ok(grant(stub, "team", "Search", "mine", "default"))
    assert_ok(ann.Insert(one_row("mine"))) if not denial(ann.Insert, one_row("mine")) else None
    page = search_request("mine", [[0.0, 1.0]], 1, iterator="True", search_iter_v2="True", search_iter_batch_size=1)
    first = assert_ok(ann.Search(page)).results.search_iterator_v2_results
    page.search_params.add(key="search_iter_id", value=first.token)
    assert_ok(grant(stub, "team", "Search", "mine", "default", revoke=True))
    assert "PrivilegeSearch" in denial(ann.Search, page)
    assert "PrivilegeSearch" in denial(As(guarded, "stranger").Search, page)


def test_the_role_admin_may_do_everything_and_root_cannot_be_dropped(guarded: Server, member: str) -> None:
    ann, stub = As(guarded, member), guarded.stub
    assert_ok(bind(stub, member, "admin"))
    assert_ok(create_role(stub, "made-by-ann".replace("-", "_"), **as_user(member)))
    assert_ok(drop_role(stub, "made_by_ann", **as_user(member)))
    names = assert_ok(ann.ShowCollections(milvus_pb2.ShowCollectionsRequest())).collection_names
    assert sorted(names) == ["mine", "theirs"]
    dropped = ann.DeleteCredential(milvus_pb2.DeleteCredentialRequest(username="root"))
    assert_refused(dropped, 1401, "root user cannot be deleted: privilege not permitted")
    assert_ok(bind(stub, member, "admin", remove=True))
    assert "PrivilegeCreateOwnership" in denial(lambda r: create_role(stub, r, **as_user(member)), "x")


def test_users_see_and_change_themselves(guarded: Server, member: str) -> None:
    stub, ann = guarded.stub, as_user(member)
    assert roles_of(stub, member, **ann) == ["team"]
    assert "PrivilegeSelectUser" in denial(lambda name: roles_of(stub, name, **ann), "root")
    assert "PrivilegeSelectUser" in denial(stub.SelectUser, milvus_pb2.SelectUserRequest(), **ann)
    assert_ok(grants(stub, "team", **ann))
    assert_ok(grants(stub, "public", **ann))
    assert "PrivilegeSelectOwnership" in denial(lambda role: grants(stub, role, **ann), "admin")

    def update(name: str, new: str) -> Any:
        return milvus_pb2.UpdateCredentialRequest(
            username=name, oldPassword=encoded(PASSWORD), newPassword=encoded(new)
        )

    assert "PrivilegeUpdateUser" in denial(stub.UpdateCredential, update("stranger", "taken-over"), **ann)
    assert_ok(stub.UpdateCredential(update(member, "another1"), **ann))
    assert roles_of(stub, member, **as_user(member, "another1")) == ["team"]


def test_roles_are_made_described_altered_listed_and_dropped(guarded: Server) -> None:
    stub = guarded.stub
    assert_ok(create_role(stub, "clerk", "reads"))
    assert_refused(create_role(stub, "clerk"), 1100, 'role [name:"clerk"] already exists: invalid', legacy=35)
    described = milvus_pb2.SelectRoleRequest(role=milvus_pb2.RoleEntity(name="clerk"), include_user_info=True)
    assert_ok(bind(stub, "stranger", "clerk"))
    (found,) = assert_ok(stub.SelectRole(described, **ROOT)).results
    assert (found.role.description, [u.name for u in found.users]) == ("reads", ["stranger"])
    assert_ok(stub.AlterRole(milvus_pb2.AlterRoleRequest(role_name="clerk", description="writes"), **ROOT))
    everyone = assert_ok(stub.SelectRole(milvus_pb2.SelectRoleRequest(), **ROOT)).results
    assert [(r.role.name, r.role.description) for r in everyone] == [
        ("admin", ""),
        ("clerk", "writes"),
        ("public", ""),
    ]
    assert_ok(grant(stub, "clerk", "Load", "mine", "default"))
    refused = "fail to drop the role that it has privileges. Use REVOKE API to revoke privileges: invalid parameter"
    assert_refused(drop_role(stub, "clerk"), 1100, refused, legacy=36)
    assert_ok(drop_role(stub, "clerk", force=True))
    assert roles_of(stub, "stranger") == []
    missing = "not found the role, maybe the role isn't existed or internal system error: invalid parameter"
    assert_refused(drop_role(stub, "clerk"), 1100, missing, legacy=36)
    assert assert_ok(stub.SelectRole(described, **ROOT)).results == []


@pytest.mark.parametrize("name", ["admin", "public"])
def test_built_in_roles_stay(guarded: Server, name: str) -> None:
    text = f"the role[{name}] is a default role, which can't be dropped: privilege not permitted"
    assert_refused(drop_role(guarded.stub, name), 1401, text)
    altered = milvus_pb2.AlterRoleRequest(role_name=name, description="x")
    assert_refused(guarded.stub.AlterRole(altered, **ROOT), 1401, "which can't be altered")
    assert_refused(create_role(guarded.stub, name), 1100, "already exists")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "role name should be not empty: invalid parameter[expected=not empty][actual=]"),
        ("1a", "the first character of role name must be an underscore or letter"),
        ("a b", "role name can only contain numbers, letters, underscores, and allowed characters ($), found   at 1"),
        ("r" * 256, "the length of role name must be not greater than limit: invalid parameter[256 out of range 0 <="),
    ],
)
def test_a_bad_role_name_is_refused(guarded: Server, name: str, text: str) -> None:
    for response in (create_role(guarded.stub, name), drop_role(guarded.stub, name), grants(guarded.stub, name)):
        assert_refused(response, 1100, text)


def test_there_are_at_most_ten_roles(guarded: Server) -> None:
    made = [f"r{n}" for n in range(8)]
    for name in made:
        assert_ok(create_role(guarded.stub, name))
    text = "unable to create role because the number of roles has reached the limit: quota exceeded"
    assert_refused(create_role(guarded.stub, "one_more"), 9, text)
    for name in made:
        assert_ok(drop_role(guarded.stub, name))


def test_binding_needs_a_role_and_a_user_and_unbinding_a_role(guarded: Server, member: str) -> None:
    stub = guarded.stub
    assert_refused(bind(stub, member, "ghosts"), 1100, "not found the role", legacy=37)
    assert_refused(bind(stub, "ghost", "team"), 1100, "not found the user", legacy=37)
    assert_refused(bind(stub, member, "ghosts", remove=True), 1100, "not found the role")
    assert_ok(bind(stub, "ghost", "team", remove=True))
    assert_ok(bind(stub, member, "team"))
    assert roles_of(stub, member) == ["team"]


def test_a_user_made_again_has_no_roles(guarded: Server, member: str) -> None:
    stub = guarded.stub
    drop_user(stub, member)
    create_user(stub, member)
    assert roles_of(stub, member) == []


def test_a_collection_made_again_has_no_grants(guarded: Server, member: str) -> None:
    stub, ann = guarded.stub, As(guarded, member)
    make_collection(stub, "again")
    assert_ok(grant(stub, "team", "Insert", "again", "default"))
    assert_ok(grant(stub, "team", "Insert", "again", "other"))
    drop_collection(stub, "again")
    make_collection(stub, "again")
    assert "PrivilegeInsert" in denial(ann.Insert, one_row("again"))
    assert [g.db_name for g in assert_ok(grants(stub, "team")).entities] == ["other"]
    drop_collection(stub, "again")


def test_loading_and_flushing_imply_looking_at_their_progress(guarded: Server, member: str) -> None:
    stub = guarded.stub

    def names() -> list[str]:
        return sorted(g.grantor.privilege.name for g in assert_ok(grants(stub, "team")).entities)

    assert_ok(grant(stub, "team", "Load", "mine", "default"))
    assert_ok(grant_v1(stub, "team", "Collection", "Flush", "mine"))
    assert names() == ["Flush", "GetFlushState", "GetLoadState", "GetLoadingProgress", "Load"]
    assert_ok(grant(stub, "team", "Load", "mine", "default", revoke=True))
    assert_ok(grant_v1(stub, "team", "Collection", "Flush", "mine", revoke=True))
    assert names() == []


@pytest.mark.parametrize(
    ("kind", "privilege", "name", "text"),
    [
        ("Nothing", "All", "*", "the object entity in the request is nil or invalid: invalid parameter"),
        ("Global", "Nothing", "*", "not found the privilege name[Nothing] in object[Global]: invalid parameter"),
        ("Global", "Insert", "*", "not found the privilege name[Insert] in object[Global]: invalid parameter"),
        ("Collection", "ClusterAdmin", "*", "can not operate the built-in privilege group [ClusterAdmin]: invalid"),
        ("Collection", "Insert", "", "object name should be not empty"),
        ("", "Insert", "*", "ObjectType should be not empty"),
        ("Collection", "", "*", "Privilege should be not empty"),
    ],
)
def test_a_grant_of_the_first_generation_is_checked(
    guarded: Server, member: str, kind: str, privilege: str, name: str, text: str
) -> None:
    for revoke in (False, True):
        assert_refused(grant_v1(guarded.stub, "team", kind, privilege, name, revoke=revoke), 1100, text)
    assert assert_ok(grants(guarded.stub, "team")).entities == []


@pytest.mark.parametrize(
    ("privilege", "collection", "database", "code", "text"),
    [
        ("Nothing", "*", "*", 1100, "not found the privilege name[Nothing]: invalid parameter"),
        ("ClusterAdmin", "*", "default", 1100, "dbName and collectionName should be * for the cluster level privilege"),
        ("DatabaseAdmin", "mine", "default", 1100, "collectionName should be * for the database level privilege"),
        ("CollectionAdmin", "mine", "*", 1100, "please specify database name for the collection level privilege"),
        ("Insert", "*", "n%", 802, "database name can only contain numbers, letters and underscores"),
        ("Insert", "n%", "*", 1100, "collection name can only contain numbers, letters, underscores"),
    ],
)
def test_a_grant_of_the_second_generation_is_checked(
    guarded: Server, member: str, privilege: str, collection: str, database: str, code: int, text: str
) -> None:
    assert_refused(grant(guarded.stub, "team", privilege, collection, database), code, text)
    assert_refused(grant(guarded.stub, "ghosts", "Insert"), 1100, "not found the role")
    assert assert_ok(grants(guarded.stub, "team")).entities == []


def test_grants_are_listed_in_the_order_of_milvus(guarded: Server, member: str) -> None:
    stub = guarded.stub
    assert_ok(grant(stub, "team", "DatabaseAdmin", database="default"))
    assert_ok(grant(stub, "team", "ClusterAdmin"))
    assert_ok(grant(stub, "team", "Search", "b", "default"))
    assert_ok(grant(stub, "team", "Insert", "b", "default"))
    assert_ok(grant(stub, "team", "Search", "a", "default"))
    listed = assert_ok(grants(stub, "team")).entities
    assert [(g.object.name, g.db_name, g.object_name, g.grantor.privilege.name) for g in listed] == [
        ("Collection", "default", "a", "Search"),
        ("Collection", "default", "b", "Insert"),
        ("Collection", "default", "b", "Search"),
        ("Global", "*", "*", "ClusterAdmin"),
        ("Global", "default", "*", "DatabaseAdmin"),
    ]


def test_all_privileges_in_a_database_are_none_outside_it(guarded: Server, member: str) -> None:
    stub, in_other = guarded.stub, as_user(member, database="other")
    assert_ok(grant_v1(stub, "team", "Global", "All", database="other"))
    assert_ok(stub.Insert(one_row("theirs"), **in_other))
    assert "PrivilegeInsert" in denial(stub.Insert, one_row("theirs"), **as_user(member))
    for options in (in_other, as_user(member)):
        assert "PrivilegeCreateOwnership" in denial(lambda name: create_role(stub, name, **options), "x")  # noqa: B023
        assert "PrivilegeManageOwnership" in denial(lambda name: bind(stub, name, "admin", **options), member)  # noqa: B023


def test_a_grant_without_a_database_is_one_in_the_database_of_the_call(guarded: Server, member: str) -> None:
    stub = guarded.stub
    assert_ok(grant(stub, "team", "Insert", "theirs", "", **as_user("root", "Milvus", "other")))
    assert_ok(grant_v1(stub, "team", "Global", "CreateOwnership"))
    assert [g.db_name for g in assert_ok(grants(stub, "team")).entities] == ["other", "default"]
    assert_ok(create_role(stub, "made", **as_user(member)))
    assert_ok(drop_role(stub, "made"))


def test_wildcards_of_the_first_generation_are_kept_to_their_type_of_object(guarded: Server, member: str) -> None:
    ann, stub = As(guarded, member), guarded.stub
    assert_ok(grant_v1(stub, "team", "Collection", "*", "mine"))
    assert_ok(ann.Insert(one_row("mine")))
    assert "PrivilegeInsert" in denial(ann.Insert, one_row("theirs"))
    drop = milvus_pb2.DropCollectionRequest(collection_name="mine")
    assert "PrivilegeDropCollection" in denial(ann.DropCollection, drop)
    assert_ok(grant_v1(stub, "team", "Global", "All"))
    assert_ok(ann.Insert(one_row("theirs")))
    in_other = one_row("theirs")
    in_other.db_name = "other"
    assert "in the `other` database" in denial(ann.Insert, in_other)


def _group(stub: Any, name: str, *, drop: bool = False) -> Any:
    if drop:
        return stub.DropPrivilegeGroup(milvus_pb2.DropPrivilegeGroupRequest(group_name=name), **ROOT)
    return stub.CreatePrivilegeGroup(milvus_pb2.CreatePrivilegeGroupRequest(group_name=name), **ROOT)


def _change_group(stub: Any, name: str, *privileges: str, remove: bool = False) -> Any:
    entities = [milvus_pb2.PrivilegeEntity(name=p) for p in privileges]
    request = milvus_pb2.OperatePrivilegeGroupRequest(group_name=name, privileges=entities, type=int(remove))
    return stub.OperatePrivilegeGroup(request, **ROOT)


def _groups(stub: Any) -> dict[str, list[str]]:
    found = assert_ok(stub.ListPrivilegeGroups(milvus_pb2.ListPrivilegeGroupsRequest(), **ROOT)).privilege_groups
    return {group.group_name: [p.name for p in group.privileges] for group in found}


def test_a_group_of_privileges_takes_effect_and_changes_at_once(guarded: Server, member: str) -> None:
    ann, stub = As(guarded, member), guarded.stub
    assert_ok(_group(stub, "writers"))
    assert_refused(_group(stub, "writers"), 1100, "privilege group name [writers] is defined by users", legacy=58)
    assert_ok(_change_group(stub, "writers", "Insert", "Query"))
    assert_ok(grant(stub, "team", "writers", "mine", "default"))
    assert_ok(ann.Insert(one_row("mine")))
    assert "PrivilegeDelete" in denial(ann.Delete, milvus_pb2.DeleteRequest(collection_name="mine", expr="id == 1"))
    assert_ok(_change_group(stub, "writers", "Insert", remove=True))
    assert "PrivilegeInsert" in denial(ann.Insert, one_row("mine"))
    used = "privilege group [writers] is used by role [team], Use REVOKE API to revoke it first: invalid parameter"
    assert_refused(_group(stub, "writers", drop=True), 1100, used, legacy=59)
    assert _groups(stub)["writers"] == ["Query"]
    assert_ok(grant(stub, "team", "writers", "mine", "default", revoke=True))
    assert_ok(_group(stub, "writers", drop=True))
    assert_ok(_group(stub, "writers", drop=True))
    assert "writers" not in _groups(stub)
    assert len(_groups(stub)) == 9


def test_a_group_of_privileges_is_checked(guarded: Server) -> None:
    stub = guarded.stub
    built_in = "is defined by built in privileges or privilege groups in system: invalid parameter"
    for name in ("Insert", "ClusterAdmin", "ReadOnly"):
        assert_refused(_group(stub, name), 1100, f"privilege group name [{name}] {built_in}")
    assert_refused(_group(stub, ""), 1402, "privilege group name should not be empty")
    assert_refused(_group(stub, "1x"), 1402, "must be an underscore or letter")
    only = "privilege group name a-b can only contain numbers, letters and underscores: invalid parameter"
    assert_refused(_group(stub, "a-b"), 1100, only)
    none = "there is no privilege group name [ghosts] defined in system to operate: invalid parameter"
    assert_refused(_change_group(stub, "ghosts", "Insert"), 1100, none, legacy=61)
    assert_ok(_group(stub, "mixed"))
    assert_refused(_change_group(stub, "mixed"), 1100, "privileges is empty when alter the privilege group")
    unknown = "there is no privilege name or privilege group name [Nothing] defined in system to operate"
    assert_refused(_change_group(stub, "mixed", "Nothing"), 1100, unknown)
    levels = "privileges are not the same privilege level: invalid parameter"
    assert_refused(_change_group(stub, "mixed", "Insert", "CreateDatabase"), 1100, levels)
    assert _groups(stub)["mixed"] == []
    assert_ok(_group(stub, "mixed", drop=True))


def test_backed_up_rules_are_restored_whole_or_not_at_all(guarded: Server, member: str) -> None:
    ann, stub = As(guarded, member), guarded.stub
    assert_ok(_group(stub, "writers"))
    assert_ok(_change_group(stub, "writers", "Insert"))
    assert_ok(grant(stub, "team", "writers", "mine", "default"))
    meta = assert_ok(stub.BackupRBAC(milvus_pb2.BackupRBACMetaRequest(), **ROOT)).RBAC_meta
    assert sorted(u.user for u in meta.users) == [member, "stranger"]
    assert [r.name for r in meta.roles] == ["team"]
    assert PASSWORD not in str(meta)

    def restore(changed: Any) -> Any:
        return stub.RestoreRBAC(milvus_pb2.RestoreRBACMetaRequest(RBAC_meta=changed), **ROOT)

    del meta.users[[u.user for u in meta.users].index("stranger")]
    assert_refused(restore(meta), 1100, "role [team] already exists")
    assert_ok(grant(stub, "team", "writers", "mine", "default", revoke=True))
    assert_ok(_group(stub, "writers", drop=True))
    drop_user(stub, member)
    assert_ok(drop_role(stub, "team", force=True))
    wrong = milvus_pb2.RBACMeta()
    wrong.CopyFrom(meta)
    wrong.users[0].password = "$2a$10$of.another.server"
    assert_refused(restore(wrong), 1100, "is not a hash that this server made")
    wrong.CopyFrom(meta)
    wrong.users[0].roles.add(name="ghosts")
    assert_refused(restore(wrong), 1100, "role [ghosts] does not exist")
    assert roles_of(stub, member) is None
    assert_ok(restore(meta))
    assert_ok(ann.Insert(one_row("mine")))
    assert_ok(restore(milvus_pb2.RBACMeta()))
    assert_ok(grant(stub, "team", "writers", "mine", "default", revoke=True))
    assert_ok(_group(stub, "writers", drop=True))


def test_without_authorization_grants_need_the_name_of_a_user_and_nothing_is_denied(
    stub: Any, collection_name: str
) -> None:
    entity = milvus_pb2.RoleEntity(name="idle")
    assert_ok(stub.CreateRole(milvus_pb2.CreateRoleRequest(entity=entity)))
    request = milvus_pb2.OperatePrivilegeV2Request(role=entity, db_name="*", collection_name="*")
    request.grantor.privilege.name = "Insert"
    text = "fail to get authorization from the md, authorization:[token]: invalid parameter"
    assert_refused(stub.OperatePrivilegeV2(request), 1100, text)
    assert_ok(stub.OperatePrivilegeV2(request, **as_user("root", "whatever")))
    assert_refused(
        stub.OperatePrivilegeV2(request, **as_user("ghost")), 1100, 'the grantor user "ghost" does not exist'
    )
    assert_ok(stub.DropRole(milvus_pb2.DropRoleRequest(role_name="idle", force_drop=True)))
    assert_ok(stub.DropCollection(milvus_pb2.DropCollectionRequest(collection_name=collection_name)))


def test_settings_bind_root_drop_public_privileges_and_make_superusers(new_server: ServerFactory) -> None:
    server = new_server(
        env={
            **WITH_AUTHORIZATION,
            "MILVINE_COMMON_SECURITY_ROOTSHOULDBINDROLE": "true",
            "MILVINE_COMMON_SECURITY_ENABLEPUBLICPRIVILEGE": "false",
            "MILVINE_COMMON_SECURITY_SUPERUSERS": "ann,root",
        }
    )
    stub = server.stub
    show = milvus_pb2.DescribeCollectionRequest(collection_name="c")
    assert "PrivilegeDescribeCollection: permission deny to root" in denial(stub.DescribeCollection, show, **ROOT)
    forgotten = milvus_pb2.UpdateCredentialRequest(username="root", newPassword=encoded("another1"))
    assert_ok(stub.UpdateCredential(forgotten, **ROOT))
    with pytest.raises(grpc.RpcError):
        stub.UpdateCredential(forgotten, **ROOT)


def test_rules_outlive_a_restart(new_server: ServerFactory) -> None:
    server = new_server(env=WITH_AUTHORIZATION)
    make_collection(server.stub, "mine")
    create_user(server.stub, "ann")
    assert_ok(create_role(server.stub, "team", "text"))
    assert_ok(bind(server.stub, "ann", "team"))
    assert_ok(_group(server.stub, "writers"))
    assert_ok(_change_group(server.stub, "writers", "Insert"))
    assert_ok(grant(server.stub, "team", "writers", "mine", "default"))
    assert_ok(grant_v1(server.stub, "public", "Global", "ListAliases", database="*", revoke=True))
    server.stop()
    server.start()
    ann = As(server, "ann")
    assert_ok(ann.Insert(one_row("mine")))
    assert "PrivilegeDropCollection" in denial(ann.DropCollection, NAMED(collection_name="mine"))
    assert len(assert_ok(grants(server.stub, "public")).entities) == 3, "each start grants what every user may do"
