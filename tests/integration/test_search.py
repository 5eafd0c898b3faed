"""search: repositories and tags of a registry."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.engine import Engine
from tests.support.fake_registry import FakeRegistry

PLAIN = "--tls-verify=false"


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as one:
        names = ["base/debian", "team/app", "team/app-tools"]
        one.content["/v2/_catalog?n=1000"] = (json.dumps({"repositories": names}).encode(), "")
        tags = {"name": "team/app", "tags": [f"v{number}" for number in range(30)]}
        one.content["/v2/team/app/tags/list?n=1000"] = (json.dumps(tags).encode(), "")
        yield one


def test_names(rootless: Engine, fake: FakeRegistry) -> None:
    out = rootless.ok("search", PLAIN, f"{fake.host}/app").splitlines()
    assert out[0].split() == ["NAME", "DESCRIPTION"]
    assert [line.strip() for line in out[1:]] == [
        f"{fake.host}/team/app",
        f"{fake.host}/team/app-tools",
    ]
    assert len(rootless.ok("search", PLAIN, f"{fake.host}/").splitlines()) == 4
    assert len(rootless.ok("search", PLAIN, "--limit=1", f"{fake.host}/app").splitlines()) == 2
    assert rootless.ok("search", PLAIN, f"{fake.host}/nothing") == ""


def test_tags(rootless: Engine, fake: FakeRegistry) -> None:
    out = rootless.ok("search", PLAIN, "--list-tags", f"{fake.host}/team/app").splitlines()
    assert out[0].split() == ["NAME", "TAG"]
    assert out[1].split() == [f"{fake.host}/team/app", "v0"]
    assert len(out) == 26
    found = rootless(
        "search", PLAIN, "--list-tags", "--limit=2", "--format=json", f"{fake.host}/team/app"
    )
    assert found.json == [{"Name": f"{fake.host}/team/app", "Tags": ["v0", "v1"]}]


def test_formats_and_filters(rootless: Engine, fake: FakeRegistry) -> None:
    results = [
        {"name": "one", "description": "d" * 100, "star_count": 9, "is_official": True},
        {"name": "two", "description": "\x1b[31mred", "star_count": 1},
    ]
    body = json.dumps({"results": results}).encode()
    fake.rules["/v1/search"] = lambda h: h.answer(200, body)
    term = f"{fake.host}/x"
    found = rootless("search", PLAIN, "--format=json", term).json
    assert found[0] == {
        "Index": fake.host,
        "Name": f"{fake.host}/one",
        "Description": "d" * 100,
        "Stars": 9,
        "Official": "[OK]",
        "Automated": "",
        "Tag": "",
    }
    assert "\x1b" not in found[1]["Description"]
    form = "--format={{.Name}} {{.Stars}}"
    assert rootless.ok("search", PLAIN, form, "-f", "stars=5", term) == f"{fake.host}/one 9"
    assert (
        rootless.ok("search", PLAIN, form, "-f", "is-official=false", term) == f"{fake.host}/two 1"
    )
    assert "d" * 45 not in rootless.ok("search", PLAIN, term)
    assert "d" * 100 in rootless.ok("search", PLAIN, "--no-trunc", term)
    heading = rootless.ok("search", PLAIN, "--compatible", term).splitlines()[0]
    assert heading.split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL", "AUTOMATED"]


def test_mistakes(fresh: Engine, fake: FakeRegistry) -> None:
    assert "no registries to search" in fresh.fails("search", "term")
    assert "invalid filter" in fresh.fails("search", "-f", "x=1", f"{fake.host}/x")
    assert "not a number" in fresh.fails("search", "-f", "stars=many", f"{fake.host}/x")
    assert "--limit" in fresh.fails("search", "--limit=-1", f"{fake.host}/x")
    fake.content.clear()
    assert "listing repositories" in fresh.fails("search", PLAIN, f"{fake.host}/x")
