"""Maps of a user namespace's root."""

from __future__ import annotations

from rootless.runtime.idmap import nested_idmap

USUAL = b"         0       2001          1\n         1    1100000      65536\n"


def test_all_that_is_mapped_as_it_is() -> None:
    idmap = nested_idmap(USUAL, USUAL)
    assert idmap is not None
    assert idmap.uids == idmap.gids == [(0, 0, 1), (1, 1, 65536)]


def test_not_on_the_host() -> None:
    assert nested_idmap(b"         0          0 4294967295\n", USUAL) is None
    assert nested_idmap(b"", b"") is None
