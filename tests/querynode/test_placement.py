"""Where segments are placed: the same each time, divided fairly, with little movement, and never beyond a limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from milvine.querynode.remote.placement import Room, Rooms, Share, Wanted, placed

_IDS = range(300)
_SIZE = 10
Found = Mapping[int, tuple[int, ...]]


def _rooms(count: int, limit: int = 1 << 30) -> list[Room]:
    return [Room(i, f"key-{i}", limit) for i in range(count)]


def placed_on(
    rooms: Iterable[Room],
    copies: int = 1,
    held: Found | None = None,
    pinned: Mapping[int, Collection[int]] | None = None,
) -> dict[int, tuple[int, ...]]:
    """All segments, on nodes that hold those of `held`."""
    share, held = Share(Rooms(rooms), copies), held or {}
    free = dict(share.rooms.limits)
    for node_id, count in Counter(i for ids in held.values() for i in ids).items():
        if node_id in free:
            free[node_id] -= count * _SIZE
    wanted = [Wanted(i, _SIZE, held.get(i, ()), (pinned or {}).get(i, ())) for i in _IDS]
    return placed(wanted, [share], free)


def test_segments_are_divided_fairly_and_the_order_of_nodes_does_not_matter() -> None:
    found = placed_on(_rooms(3))
    assert found == placed_on(_rooms(3)[::-1])
    for node_id in range(3):
        assert 70 < sum(ids == (node_id,) for ids in found.values()) < 130


def test_each_copy_is_on_another_node() -> None:
    assert all(len(set(ids)) == 2 for ids in placed_on(_rooms(3), 2).values())
    assert {len(ids) for ids in placed_on(_rooms(2), 3).values()} == {2}


def test_the_first_of_many_nodes_are_those_that_a_segment_prefers() -> None:
    rooms = Rooms(_rooms(200))
    assert rooms.first(list(_IDS), 5) == [rooms.preferred(i)[:5] for i in _IDS]


def test_a_node_that_goes_or_comes_moves_only_its_own_segments() -> None:
    before, after = placed_on(_rooms(4)), placed_on(_rooms(3))
    assert {i for i in _IDS if before[i] != after[i]} == {i for i in _IDS if before[i] == (3,)}
    assert placed_on(_rooms(4), held=after) == before


def test_a_node_takes_no_more_than_its_limit() -> None:
    found = placed_on([*_rooms(1, 500), Room(1, "key-1", 1000)])
    counts = [sum(ids == (node_id,) for ids in found.values()) for node_id in range(2)]
    assert counts == [50, 100]
    assert sum(not ids for ids in found.values()) == 150


def test_what_is_held_stays_when_segments_of_a_lost_node_find_the_others_full() -> None:
    held = placed_on(_rooms(4, 900))
    left = placed_on(_rooms(3, 900), held={i: ids for i, ids in held.items() if ids != (3,)})
    assert all(left[i] == ids for i, ids in held.items() if ids != (3,))
    assert sum(not ids for ids in left.values()) == 30


def test_a_node_that_holds_too_much_gives_some_of_it_away() -> None:
    held = dict.fromkeys(_IDS, (0,))
    found = placed_on([*_rooms(1, 2000), Room(1, "key-1", 1 << 30)], held=held)
    assert 0 < sum(ids == (0,) for ids in found.values()) <= 200


def test_what_was_asked_for_comes_first() -> None:
    found = placed_on(_rooms(3), pinned={1: (2,)})
    assert found[1] == (2,)
    assert {i: found[i] for i in _IDS if i != 1} == {i: ids for i, ids in placed_on(_rooms(3)).items() if i != 1}
    assert set(placed_on(_rooms(3), 2, pinned={2: (0, 2)})[2]) == {0, 2}


def test_replicas_of_two_groups_are_on_nodes_of_each_and_never_twice_on_one() -> None:
    rooms = _rooms(5)
    free = dict.fromkeys(range(5), 1 << 30)
    wanted = [Wanted(i, _SIZE) for i in _IDS]
    found = placed(wanted, [Share(Rooms(rooms[:2]), 1), Share(Rooms(rooms[2:]), 2)], free)
    assert all(ids[0] < 2 <= min(ids[1:]) and len(set(ids)) == 3 for ids in found.values())
    anywhere = placed(wanted, [Share(Rooms(rooms[:1]), 1), Share(Rooms(rooms), 2)], free)
    assert all(ids[0] == 0 and len(set(ids)) == 3 for ids in anywhere.values())
