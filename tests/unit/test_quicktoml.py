"""Plain settings read as tomllib reads them, and everything else left to it."""

from __future__ import annotations

import random
import subprocess
import sys
import tomllib

import pytest

from rootless import quicktoml

PLAIN = """\
# containers-registries.conf(5)\t, with a tab
unqualified-search-registries = ["docker.io", "quay.io"]
short-name-mode="permissive"
none = []
[[registry]]
prefix = "example.com/foo"
insecure = true
\tblocked = false
[[registry]]
location = "grüße.example"

[aliases]
  "alpine" = "docker.io/library/alpine"
  "a.b/c" = ""
"""
# What lies between the plain and the rest: what is put together of these is read alike, or refused by both.
PIECES = (
    '"', "'", "[", "]", "[[", "]]", "=", ",", "#", " ", "\t", "\n", "\r\n", "\r", "a", "b.c", '"d"', '"""', "\\", "\\n",
    "true", "false", "1", "1979-05-27", "{", "}", 'a = "x"', "[a]", "[[a]]", "[b]\n", 'a = ["x", "y"]', "é", "\u2028",
    "\x00", "\ufeff", "\x85", 'a = ["x",]', "a = []", "\n\n",
)  # fmt: skip


@pytest.mark.parametrize("text", [PLAIN, PLAIN.replace("\n", "\r\n"), "", "#", '"a,b=c" = ""'])
def test_plain_documents(text: str) -> None:
    assert quicktoml.loads(text.encode()) == tomllib.loads(text)


def test_whatever_is_put_together_means_the_same_as_to_tomllib() -> None:
    source = random.Random(1)
    read = 0
    for _ in range(30_000):
        text = "".join(source.choices(PIECES, k=source.randrange(9)))
        try:
            expected = tomllib.loads(text)
        except ValueError:
            with pytest.raises(ValueError):
                quicktoml.loads(text.encode())
            continue
        assert quicktoml.loads(text.encode()) == expected, text
        read += 1
    assert read > 1000


def test_what_is_no_utf_8_is_refused() -> None:
    with pytest.raises(ValueError):
        quicktoml.loads(b'a = "\xff"')


@pytest.mark.parametrize(("text", "loaded"), [(PLAIN, False), ("a = 1", True)])
def test_tomllib_is_loaded_only_where_it_is_needed(text: str, loaded: bool) -> None:
    program = f"import sys; from rootless import quicktoml; quicktoml.loads({text.encode()!r}); print('tomllib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == str(loaded).encode()
