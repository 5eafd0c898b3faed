"""Maps of one user namespace through another."""

from __future__ import annotations

import os

import pytest

from rootless.linux.idmap import Unmapped, compose, read_map

OUTER = [(0, 1000, 1), (1, 100000, 10)]


def test_piece_by_piece() -> None:
    assert compose([(0, 1, 1), (7, 0, 3)], OUTER) == [(0, 100000, 1), (7, 1000, 1), (8, 100000, 2)]
    assert compose([], OUTER) == []


def test_the_first_id_that_has_none_is_named() -> None:
    with pytest.raises(Unmapped) as caught:
        compose([(5, 9, 8)], OUTER)
    assert (caught.value.container, caught.value.host, caught.value.size) == (7, 11, 6)


def test_reads_what_the_kernel_says() -> None:
    assert any(
        inside <= os.getuid() < inside + size for inside, _, size in read_map("self", "uid_map")
    )
