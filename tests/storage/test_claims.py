"""Which of two servers with one URI keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvine.errors import IoFailed
from milvine.storage.claims import Claim
from milvine.storage.objects import Objects, Place


@pytest.mark.parametrize(
    ("epochs", "keeps", "reason"),
    [((5, 6), 1, "has taken over"), ((6, 5), 0, "has taken over"), ((0, 0), 1, "a copy of")],
)
def test_the_server_of_the_latest_epoch_keeps_the_uri(
    tmp_path: Path, epochs: tuple[int, int], keeps: int, reason: str
) -> None:
    objects = Objects(Place("memory:///"))
    claims = [Claim(tmp_path, objects, "catalog", epoch) for epoch in epochs]
    for claim in claims:
        claim.make()
    claims[keeps].check()
    with pytest.raises(IoFailed, match=reason):
        claims[1 - keeps].check()
    claims[keeps].check()
