"""Blobs: verified while they stream, resumed, fetched once, and never under a name that was not checked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import RootlessError
from rootless.storage.blobs import BlobError, BlobStore, check

DATA = os.urandom(300_000)
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path / "blobs"), str(tmp_path / "tmp"))


def test_a_blob_appears_when_it_is_whole(blobs: BlobStore, tmp_path: Path) -> None:
    writer = blobs.writer(DIGEST, len(DATA))
    assert writer is not None
    writer.write(DATA[:100_000])
    assert not blobs.has(DIGEST)
    writer.write(DATA[100_000:])
    writer.commit()
    assert blobs.read(DIGEST) == DATA
    assert blobs.size(DIGEST) == len(DATA)
    assert blobs.is_intact(DIGEST)
    assert list(blobs.all()) == [DIGEST]
    assert blobs.writer(DIGEST, len(DATA)) is None
    assert os.listdir(tmp_path / "tmp") == []


def test_sha512_is_as_good(blobs: BlobStore) -> None:
    digest = f"sha512:{hashlib.sha512(DATA).hexdigest()}"
    writer = blobs.writer(digest, len(DATA))
    assert writer is not None
    writer.write(DATA)
    writer.commit()
    assert blobs.is_intact(digest)


def test_an_interrupted_blob_is_resumed(blobs: BlobStore) -> None:
    first = blobs.writer(DIGEST, len(DATA))
    assert first is not None
    with first:
        first.write(DATA[:1000])
    second = blobs.writer(DIGEST, len(DATA))
    assert second is not None
    assert second.offset == 1000
    second.write(DATA[1000:])
    second.commit()
    assert blobs.read(DIGEST) == DATA


def test_a_blob_can_be_started_anew(blobs: BlobStore) -> None:
    first = blobs.writer(DIGEST, len(DATA))
    assert first is not None
    first.write(b"wrong")
    first.keep()
    second = blobs.writer(DIGEST, len(DATA))
    assert second is not None
    second.restart()
    assert second.offset == 0
    second.write(DATA)
    second.commit()
    assert blobs.is_intact(DIGEST)


def test_wrong_bytes_leave_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    writer = blobs.writer(DIGEST, 5)
    assert writer is not None
    writer.write(b"wrong")
    with pytest.raises(BlobError, match="have digest sha256:"):
        writer.commit()
    assert not blobs.has(DIGEST)
    assert os.listdir(tmp_path / "tmp") == []


def test_too_few_bytes_are_kept_for_later(blobs: BlobStore, tmp_path: Path) -> None:
    writer = blobs.writer(DIGEST, len(DATA))
    assert writer is not None
    writer.write(DATA[:10])
    with pytest.raises(BlobError, match="cut off after 10 of 300000"):
        writer.commit()
    assert not blobs.has(DIGEST)
    assert len(os.listdir(tmp_path / "tmp")) == 1


def test_case_32_more_than_was_announced_is_refused_at_once(
    blobs: BlobStore, tmp_path: Path
) -> None:
    writer = blobs.writer(DIGEST, 10)
    assert writer is not None
    with pytest.raises(BlobError, match="more than the expected 10"):
        writer.write(DATA)
    assert os.listdir(tmp_path / "tmp") == []


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "sha256:",
        "sha256:" + "0" * 63,
        "sha256:" + "G" * 64,
        "sha256:" + "A" * 64,
        "sha256:../../../../etc/passwd" + "0" * 39,
        "../sha256:" + "0" * 64,
        "md5:" + "0" * 32,
        "sha256:" + "0" * 64 + "/../x",
        "sha256:" + "0" * 64 + "\n",
        "/etc/passwd",
        None,
        7,
    ],
)
def test_case_27_no_digest_becomes_a_path_unchecked(blobs: BlobStore, digest: object) -> None:
    uses: list[Callable[[Any], object]] = [check, blobs.path, blobs.has, blobs.open]
    uses += [blobs.writer, blobs.remove, blobs.size]
    for use in uses:
        with pytest.raises(BlobError, match="not a valid digest"):
            use(digest)
    with pytest.raises(BlobError):
        blobs.put(b"", digest if isinstance(digest, str) else "x")


def test_put_compares(blobs: BlobStore) -> None:
    assert blobs.put(DATA) == DIGEST
    assert blobs.put(DATA, DIGEST) == DIGEST
    with pytest.raises(BlobError, match="the data has"):
        blobs.put(b"other", DIGEST)


def test_of_two_processes_one_fetches(blobs: BlobStore) -> None:
    go, tell = os.pipe()
    reader, writer = os.pipe()
    pid = os.fork()  # before our lock's descriptor is there to be inherited
    if pid == 0:
        os.close(reader)
        os.read(go, 1)
        os.write(writer, b"asking")
        os._exit(7 if blobs.writer(DIGEST, len(DATA)) is None else 1)
    ours = blobs.writer(DIGEST, len(DATA))
    assert ours is not None
    ours.write(DATA[:5000])
    os.write(tell, b"x")
    # It finds the blob there when it gets the lock.
    assert os.read(reader, 6) == b"asking"
    ours.write(DATA[5000:])
    ours.commit()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    for fd in (go, tell, reader, writer):
        os.close(fd)


def test_the_lock_of_a_killed_process_is_free(blobs: BlobStore) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        theirs = blobs.writer(DIGEST, len(DATA))
        assert theirs is not None
        theirs.write(DATA[:4096])
        os.write(writer, b"x")
        os.kill(os.getpid(), 9)
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    os.close(reader)
    os.waitpid(pid, 0)
    ours = blobs.writer(DIGEST, len(DATA))
    assert ours is not None
    assert ours.offset == 4096
    ours.write(DATA[4096:])
    ours.commit()


def test_blobs_of_additional_stores_are_found_and_not_removed(tmp_path: Path) -> None:
    shared = BlobStore(str(tmp_path / "shared"), str(tmp_path / "tmp1"))
    shared.put(DATA)
    own = BlobStore(str(tmp_path / "own"), str(tmp_path / "tmp2"), (str(tmp_path / "shared"),))
    assert own.read(DIGEST) == DATA
    assert list(own.all()) == []
    assert own.remove(DIGEST) == 0
    assert shared.has(DIGEST)


def test_a_full_quota_is_told_as_such() -> None:
    import errno

    from rootless.storage.blobs import explain_full

    for number, said in ((errno.EDQUOT, "quota is used up"), (errno.ENOSPC, "no space left")):
        told = explain_full(OSError(number, os.strerror(number)), "/store")
        assert isinstance(told, RootlessError)
        assert told.message.startswith("/store: ") and said in told.message
        assert "--root" in told.hint
    other = OSError(errno.EIO, "x")
    assert explain_full(other, "/store") is other
