"""The template engine against what Podman 5.4.2 (Go 1.24) printed for the same templates, and on data of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rootless.cli import template
from rootless.cli.template import Struct, TemplateError, structs

CASES = json.loads(Path(__file__).parents[2].joinpath("data/go-templates.json").read_text())


@pytest.mark.parametrize(
    ("form", "output", "message"), CASES, ids=[f"{at}-{case[0]}" for at, case in enumerate(CASES)]
)
def test_as_podman(form: str, output: str, message: str) -> None:
    data = Struct({"Client": Struct({"Os": "linux"})}, "*define.Version")
    if message:
        with pytest.raises(TemplateError) as caught:
            template.render("version", form, data)
        assert str(caught.value) == message
        assert caught.value.exit_code == 125
    else:
        assert template.render("version", form, data) == output


DOCUMENT: dict[str, Any] = structs(
    {
        "Id": "0123abcd",
        "State": {"Running": True, "ExitCode": 0, "Pid": 42, "Health": None},
        "Labels": {"org.example": "x", "empty": ""},
        "Mounts": [
            {"Source": "/a", "Destination": "/b", "RW": True},
            {"Source": "/c", "Destination": "/d", "RW": False},
        ],
        "Ports": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "53/udp": None},
        "Env": ["A=1", "B=2"],
        "Empty": [],
        "Ratio": 1.5,
    },
    frozenset({"Labels", "Ports"}),
    "*define.InspectContainerData",
)


@pytest.mark.parametrize(
    ("form", "output"),
    [
        ("{{.Id}}", "0123abcd"),
        ("{{.State.Running}} {{.State.ExitCode}}", "true 0"),
        ("{{.Labels}}", "map[empty: org.example:x]"),
        ('{{index .Labels "org.example"}}|{{index .Labels "none"}}|', "x||"),
        ("{{.Labels.none}}", "<no value>"),
        ("{{.Labels.empty}}", ""),
        ("{{.State.Health}}", "<nil>"),
        ("{{.Env}} {{.Empty}} {{.Ratio}}", "[A=1 B=2] [] 1.5"),
        ("{{len .Env}} {{len .Labels}}", "2 2"),
        ("{{range .Mounts}}{{.Source}}:{{.Destination}} {{end}}", "/a:/b /c:/d "),
        ("{{range $i, $m := .Mounts}}{{$i}}{{$m.RW}}{{end}}", "0true1false"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "empty=;org.example=x;"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        ("{{with .State}}{{.Pid}}{{end}}", "42"),
        ("{{with .State.Health}}x{{else}}no check{{end}}", "no check"),
        ("{{json .State}}", '{"Running":true,"ExitCode":0,"Pid":42,"Health":null}'),
        ("{{json .Labels}}", '{"org.example":"x","empty":""}'),
        ('{{if eq .State.Pid 42}}{{printf "%-4d|" .State.Pid}}{{end}}', "42  |"),
        ('{{join .Env ", "}}', "A=1, B=2"),
        ("{{.State}}", "{true 0 42 <nil>}"),
        ("{{range .Mounts}}{{$.Id}}{{end}}", "0123abcd0123abcd"),
        ("{{if and .State.Running (not .State.ExitCode)}}fine{{end}}", "fine"),
        ('{{.State.Pid | printf "%05d"}}', "00042"),
        ("{{slice .Id 0 4}}", "0123"),
    ],
)
def test_data(form: str, output: str) -> None:
    assert template.Template("inspect", form).render(DOCUMENT) == output


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (
            "{{.Nope}}",
            'template: inspect:1:2: executing "inspect" at <.Nope>: '
            "can't evaluate field Nope in type *define.InspectContainerData",
        ),
        (
            "{{.Id.Foo}}",
            'template: inspect:1:5: executing "inspect" at <.Id.Foo>: can\'t evaluate field Foo in type string',
        ),
        (
            "ab\n{{.Labels.a.b}}",
            'template: inspect:2:9: executing "inspect" at <.Labels.a.b>: nil data; no entry for key "b"',
        ),
        (
            "{{.State.Health.Status}}",
            'template: inspect:1:8: executing "inspect" at <.State.Health.Status>: '
            "nil pointer evaluating interface {}.Status",
        ),
    ],
)
def test_misfits(form: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        template.Template("inspect", form).render(DOCUMENT)
    assert str(caught.value) == message


def test_methods() -> None:
    row = Struct(
        {"ID": lambda: "abc", "Label": {"a": "b"}.get, "Two": lambda one, two: one + two},
        "main.row",
    )
    render = template.Template
    assert render("ps", "{{.ID}}").render(row) == "abc"
    assert render("ps", '{{.Two "x" "y"}}').render(row) == "xy"
    assert render("ps", '{{"y" | .Two "x"}}').render(row) == "xy"
    with pytest.raises(TemplateError, match="wrong number of args for Two: want 2 got 1"):
        render("ps", '{{.Two "x"}}').render(row)


def test_hostile_templates_end() -> None:
    for form in ("{{" * 10000, "{{(" * 5000, "{{if 1}}" * 5000, '{{printf "%999999999d" 1 | len}}'):
        with pytest.raises(TemplateError):
            template.Template("x", form).render({})
            raise TemplateError("it ended")
