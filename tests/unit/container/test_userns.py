"""The id maps of --userns, --uidmap and --gidmap, against Podman's for the same ids (100000:65536 for uid 1000)."""

from __future__ import annotations

import pytest

from rootless.container.options import CreateOptions
from rootless.container.userns import choose, joined, keep_ids, on_host
from rootless.errors import RootlessError, Usage
from rootless.linux.idmap import IdMap, count

OURS = [(0, 1000, 1), (1, 100000, 65536)]
DEFAULT = IdMap(OURS, OURS)
SINGLE = IdMap([(0, 1000, 1)], [(0, 1000, 1)])


def options(**flags: object) -> CreateOptions:
    return CreateOptions.from_flags(flags, ["bb"])


def uids(default: IdMap = DEFAULT, **flags: object) -> list[tuple[int, int, int]]:
    idmap = choose(options(**flags), default, 1000, 1000)
    assert idmap is not None
    return idmap.uids


def test_default_is_not_recorded() -> None:
    for mode in ("", "host", "private", "container:x", "ns:/x"):
        assert choose(options(userns=mode), DEFAULT, 1000, 1000) is None


def test_on_host() -> None:
    assert on_host([(0, 0, 65537)], OURS) == OURS
    assert on_host([(5, 0, 3)], OURS) == [(5, 1000, 1), (6, 100000, 2)]
    assert on_host([(0, 1, 1000), (1000, 0, 1), (1001, 1001, 10)], OURS) == [
        (0, 100000, 1000),
        (1000, 1000, 1),
        (1001, 101000, 10),
    ]
    with pytest.raises(Usage, match="this user has 65537 ids"):
        on_host([(0, 65000, 1000)], OURS)


def test_joined() -> None:
    assert joined([(1, 11, 1), (0, 10, 1), (5, 20, 1)]) == [(0, 10, 2), (5, 20, 1)]
    with pytest.raises(Usage, match="mapped twice"):
        joined([(0, 10, 5), (4, 30, 1)])


def test_keep_id() -> None:
    # Podman: 0:1:1000, 1000:0:1, 1001:1001:64536
    assert uids(userns="keep-id") == [(0, 100000, 1000), (1000, 1000, 1), (1001, 101000, 64536)]
    assert count(uids(userns="keep-id")) == 65537


def test_keep_id_of_another_id() -> None:
    assert uids(userns="keep-id:uid=5,gid=6") == [
        (0, 100000, 5),
        (5, 1000, 1),
        (6, 100005, 65531),
    ]
    assert keep_ids(options(userns="keep-id:uid=5"), 1000, 1001) == (5, 1001)
    assert keep_ids(options(userns="auto"), 1000, 1000) is None


def test_keep_id_at_the_ends() -> None:
    assert uids(userns="keep-id:uid=0,gid=0") == OURS
    assert uids(userns="keep-id:uid=70000") == [(0, 100000, 65536), (70000, 1000, 1)]
    assert uids(SINGLE, userns="keep-id") == [(1000, 1000, 1)]
    assert uids(userns="keep-id:uid=5,size=10") == [(0, 100000, 5), (5, 1000, 1), (6, 100005, 4)]


def test_keep_id_by_root() -> None:
    with pytest.raises(Usage, match="only supported in rootless mode"):
        choose(options(userns="keep-id"), DEFAULT, 0, 0)


def test_nomap() -> None:
    assert uids(userns="nomap") == [(0, 100000, 65536)]
    with pytest.raises(Usage, match="no subordinate ids"):
        choose(options(userns="nomap"), SINGLE, 1000, 1000)


def test_auto_takes_what_no_other_has() -> None:
    first = choose(options(userns="auto"), DEFAULT, 1000, 1000)
    assert first is not None and first.uids == [(0, 100000, 1024)]
    second = choose(options(userns="auto:size=100"), DEFAULT, 1000, 1000, [first])
    assert second is not None and second.uids == [(0, 101024, 100)]
    third = choose(options(userns="auto"), DEFAULT, 1000, 1000, [second])
    assert third is not None and third.uids == [(0, 100000, 1024)]
    fourth = choose(options(userns="auto"), DEFAULT, 1000, 1000, [second, third])
    assert fourth is not None and fourth.uids == [(0, 101124, 1024)]


def test_auto_when_all_are_taken() -> None:
    with pytest.raises(RootlessError, match="no 70000 of 65537 subordinate ids are free"):
        choose(options(userns="auto:size=70000"), DEFAULT, 1000, 1000)


def test_auto_with_a_mapping_by_hand() -> None:
    found = uids(userns="auto:size=10,uidmapping=5:0:1")
    assert found == [(0, 100000, 5), (5, 1000, 1), (6, 100006, 4)]


def test_uidmap() -> None:
    assert uids(uidmap=["0:1:10"]) == [(0, 100000, 10)]
    assert uids(uidmap=["0:1:10", "10:0"]) == [(0, 100000, 10), (10, 1000, 1)]
    assert uids(uidmap=["0:@100005:2"]) == [(0, 100005, 2)]
    idmap = choose(options(uidmap=["0:1:10"]), DEFAULT, 1000, 1000)
    assert idmap is not None and idmap.gids == idmap.uids
    idmap = choose(options(uidmap=["0:1:10"], gidmap=["0:0:1"]), DEFAULT, 1000, 1000)
    assert idmap is not None and idmap.gids == [(0, 1000, 1)]


def test_uidmap_that_extends() -> None:
    """`+`: what is left of the user's ids fills the rest."""
    assert uids(uidmap=["+1000:0"]) == [(0, 100000, 1000), (1000, 1000, 1), (1001, 101000, 64536)]


def test_uidmap_of_what_is_not_ours() -> None:
    with pytest.raises(Usage, match="is not among this user's"):
        choose(options(uidmap=["0:@5"]), DEFAULT, 1000, 1000)
    with pytest.raises(Usage, match="this user has 1 ids"):
        choose(options(uidmap=["0:0:2"]), SINGLE, 1000, 1000)
