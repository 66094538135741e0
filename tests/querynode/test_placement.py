"""Where segments are placed: the same each time, divided fairly, with little movement, and never beyond a limit."""

from __future__ import annotations

from milvine.querynode.remote.placement import Room, Share, placed, preferred

_SIZES = dict.fromkeys(range(300), 10)


def _rooms(count: int, limit: int = 1 << 30) -> list[Room]:
    return [Room(i, f"key-{i}", limit) for i in range(count)]


def placed_on(
    sizes: dict[int, int], rooms: list[Room], copies: dict[int, int], pinned: dict[int, tuple[int, ...]] | None = None
) -> dict[int, tuple[int, ...]]:
    return placed(sizes, {i: [Share(rooms, copies[i])] for i in sizes}, pinned)


def _copies(count: int) -> dict[int, int]:
    return dict.fromkeys(_SIZES, count)


def test_segments_are_divided_fairly_and_the_order_of_nodes_does_not_matter() -> None:
    found = placed_on(_SIZES, _rooms(3), _copies(1))
    assert found == placed_on(_SIZES, _rooms(3)[::-1], _copies(1))
    for node_id in range(3):
        assert 70 < sum(ids == (node_id,) for ids in found.values()) < 130


def test_each_copy_is_on_another_node() -> None:
    found = placed_on(_SIZES, _rooms(3), _copies(2))
    assert all(len(set(ids)) == 2 for ids in found.values())
    assert {len(ids) for ids in placed_on(_SIZES, _rooms(2), _copies(3)).values()} == {2}


def test_a_node_that_goes_moves_only_its_own_segments() -> None:
    before, after = placed_on(_SIZES, _rooms(4), _copies(1)), placed_on(_SIZES, _rooms(3), _copies(1))
    assert {i for i in _SIZES if before[i] != after[i]} == {i for i in _SIZES if before[i] == (3,)}


def test_a_node_takes_no_more_than_its_limit() -> None:
    found = placed_on(_SIZES, [*_rooms(1, 500), Room(1, "key-1", 1000)], _copies(1))
    counts = [sum(ids == (node_id,) for ids in found.values()) for node_id in range(2)]
    assert counts == [50, 100]
    assert sum(not ids for ids in found.values()) == 150


def test_what_was_asked_for_comes_first() -> None:
    assert placed_on({1: 10, 2: 10}, _rooms(3), {1: 1, 2: 2}, {1: (2,), 2: (0, 2)}) == {1: (2,), 2: placed_pair()}


def placed_pair() -> tuple[int, ...]:
    """Both are asked for, so the hash decides their order."""
    found = placed_on({2: 10}, [_rooms(3)[0], _rooms(3)[2]], {2: 2})
    return found[2]


def test_only_the_nodes_of_its_group_hold_a_segment_and_groups_share_no_memory_twice() -> None:
    left, right = _rooms(2, 20), [Room(1, "key-1", 20), Room(2, "key-2", 20)]
    found = placed({1: 20, 2: 10, 3: 10}, {1: [Share(left, 2)], 2: [Share(right, 2)], 3: [Share(right, 2)]})
    assert found == {1: tuple(room.node_id for room in preferred(left, 1)), 2: (2,), 3: (2,)}


def test_replicas_of_two_groups_are_on_nodes_of_each_and_never_twice_on_one() -> None:
    rooms = _rooms(5)
    found = placed(_SIZES, {i: [Share(rooms[:2], 1), Share(rooms[2:], 2)] for i in _SIZES})
    assert all(ids[0] < 2 <= min(ids[1:]) and len(set(ids)) == 3 for ids in found.values())
    anywhere = placed(_SIZES, {i: [Share(rooms[:1], 1), Share(rooms, 2)] for i in _SIZES})
    assert all(ids[0] == 0 and len(set(ids)) == 3 for ids in anywhere.values())
