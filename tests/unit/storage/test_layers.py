"""Chain ids, and what may name a layer's folder."""

from __future__ import annotations

import hashlib

import pytest

from rootless.errors import RootlessError
from rootless.storage.layers import chain_ids, folder_name

A, B, C = ("sha256:" + letter * 64 for letter in "abc")


def test_chain_ids_are_the_image_specs() -> None:
    first = "sha256:" + hashlib.sha256(f"{A} {B}".encode()).hexdigest()
    second = "sha256:" + hashlib.sha256(f"{first} {C}".encode()).hexdigest()
    assert chain_ids([A, B, C]) == [A, first, second]
    assert chain_ids([]) == []


def test_case_27_diff_ids_are_checked() -> None:
    for bad in ("sha256:../../x", "", "sha256:" + "A" * 64):
        with pytest.raises(RootlessError, match="not a valid"):
            chain_ids([A, bad])
        with pytest.raises(RootlessError, match="not a valid"):
            folder_name(bad)


def test_folders_tell_algorithms_apart() -> None:
    assert folder_name(A) == "a" * 64
    assert folder_name("sha512:" + "0" * 128) == "sha512-" + "0" * 128
