"""bin/rootless: finds its package from wherever it is called, and lets nothing of the caller's surroundings in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.engine import REPOSITORY, Engine

# Stands in for rootless/start.py and tells how it was called.
PROBE = """
import json, os, sys
def main(name):
    environment = {name: os.environ[name] for name in os.environ if "LD_" in name}
    flags = [sys.flags.isolated, sys.flags.no_site, sys.flags.ignore_environment, sys.flags.utf8_mode]
    print(json.dumps([sys.executable, flags, sys.argv[1:], sys.path[-1], environment, sorted(sys.modules)]))
    sys.exit(7)
"""


def install(folder: Path, package: str, python: bool = True) -> Path:
    """The script in folder/bin, a probe as its package."""
    (folder / "bin").mkdir(parents=True)
    shutil.copy(REPOSITORY / "bin/rootless", folder / "bin/rootless")
    if python:
        (folder / "bin/python3").symlink_to("/usr/bin/python3")
    start = folder / package / "rootless/start.py"
    start.parent.mkdir(parents=True)
    start.with_name("__init__.py").touch()
    start.write_text(PROBE)
    return folder / "bin/rootless"


def call(
    *command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None
) -> list[object]:
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **(env or {})},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 7, done
    assert done.stderr == ""
    answer = json.loads(done.stdout)
    assert isinstance(answer, list)
    return answer


@pytest.mark.parametrize(
    "package", ["lib/python3.99/site-packages", "lib/python3.99/dist-packages", "."]
)
@pytest.mark.parametrize("python", [True, False])
def test_it_finds_its_package(tmp_path: Path, package: str, python: bool) -> None:
    script = install(tmp_path / "a folder", package, python)
    executable, flags, args, last, _, _ = call(script, "x", "a b", "", "*")
    assert executable == str(tmp_path / "a folder/bin/python3") if python else "/usr/bin/python3"
    assert flags == [1, 1, 1, 1]
    assert args == ["x", "a b", "", "*"]
    assert os.path.normpath(str(last)) == os.path.normpath(str(tmp_path / "a folder" / package))


def test_it_is_found_through_links_and_relative_names(tmp_path: Path) -> None:
    script = install(tmp_path / "venv", "lib/python3.11/site-packages")
    link = tmp_path / "home/.local/bin/rootless"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../../venv/bin/rootless")
    (link.parent / "python3").write_text("#!/bin/sh\necho the wrong interpreter\n")
    (link.parent / "python3").chmod(0o755)
    expected = str(tmp_path / "venv/lib/python3.11/site-packages")
    for command, cwd in (
        ([link], None),
        (["./rootless"], link.parent),
        (["bin/rootless"], tmp_path / "venv"),
        (["../../home/.local/bin/rootless"], tmp_path / "venv/bin"),
        (["sh", "rootless"], tmp_path / "venv/bin"),
        (["./rootless"], tmp_path / "venv/bin"),
        (["bin/..//bin/./rootless"], tmp_path / "venv"),
        (["env", f"PATH={link.parent}:/usr/bin:/bin", "rootless"], None),
        (["env", "PATH=.:/usr/bin:/bin", "rootless"], script.parent),
    ):
        assert os.path.realpath(str(call(*command, cwd=cwd)[3])) == expected, command


@pytest.mark.parametrize("variable", ["LANG", "LC_ALL"])
@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "de_DE.ISO-8859-1", "nonsense"])
def test_names_are_bytes_whatever_the_locale(tmp_path: Path, variable: str, locale: str) -> None:
    script = install(tmp_path / "venv", "lib/python3.11/site-packages")
    name = os.fsdecode(b"\xc3\xa4\xff")
    environment = {variable: locale, "PYTHONUTF8": "0"}
    _, flags, words, *_ = call(script, name, env=environment)
    assert (flags, words) == ([1, 1, 1, 1], [name])


def test_an_editable_install_is_found_by_site(tmp_path: Path) -> None:
    source = tmp_path / "source"
    install(source, ".")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    shutil.copy(REPOSITORY / "bin/rootless", tmp_path / "venv/bin/rootless")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = tmp_path / "venv/lib" / version / "site-packages"
    (packages / "rootless.pth").write_text(f"{source}\n")
    # Build tools put the shipped data into such a folder, which must not be taken for the package.
    (packages / "rootless/share").mkdir(parents=True)
    _, flags, _, last, _, _ = call(tmp_path / "venv/bin/rootless")
    assert (flags, last) == ([1, 0, 1, 1], str(source))


def test_case_51_surroundings_inject_nothing(tmp_path: Path) -> None:
    script = install(tmp_path / "venv", "lib/python3.11/site-packages")
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in ("json", "os", "sitecustomize", "usercustomize", "encodings", "rootless"):
        (evil / f"{name}.py").write_text("import posix; posix._exit(66)")
    names = call(
        script,
        cwd=evil,
        env={
            "HOME": str(evil),
            "PYTHONPATH": str(evil),
            "PYTHONHOME": "/nonexistent",
            "PYTHONSTARTUP": str(evil / "os.py"),
            "PYTHONINSPECT": "1",
            "PYTHONUSERBASE": str(evil),
            "PYTHONWARNINGS": "error",
            "LD_LIBRARY_PATH": f":{evil}",
        },
    )[5]
    assert isinstance(names, list)
    assert not {"site", "sitecustomize", "usercustomize"} & set(names)


def test_case_51_library_variables_are_set_aside_and_given_back(tmp_path: Path) -> None:
    script = install(tmp_path / "venv", "lib/python3.11/site-packages")
    wanted = {"LD_LIBRARY_PATH": ":/a b:$(id)", "LD_AUDIT": ""}
    assert call(script, env=wanted)[4] == {
        f"ROOTLESS_{name}": value for name, value in wanted.items()
    }
    code = f"""
import sys
sys.path.append({str(REPOSITORY)!r})
import types
command = types.ModuleType("rootless.__main__")
def main():
    import os
    return 0 if (os.environ["LD_LIBRARY_PATH"], "ROOTLESS_LD_LIBRARY_PATH" in os.environ) == ("/x", False) else 1
command.main = main
sys.modules["rootless.__main__"] = command
from rootless.start import main
main()
"""
    environment = {"ROOTLESS_LD_LIBRARY_PATH": "/x"}
    assert (
        subprocess.run([sys.executable, "-ISc", code], env=environment, check=False).returncode == 0
    )


def test_site_is_loaded_only_for_what_is_nowhere_else(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "dependency.py").touch()
    (tmp_path / "venv/lib" / version / "site-packages/x.pth").write_text(f"{elsewhere}\n")
    code = f"""
import sys
sys.path.append({str(REPOSITORY)!r})
from rootless.start import LateSite
sys.meta_path.append(LateSite)
import json
try:
    import msvcrt
except ImportError:
    pass
try:
    import rootless.missing
except ImportError:
    pass
assert "site" not in sys.modules
import dependency
assert "site" in sys.modules
try:
    import nowhere
except ImportError:
    sys.exit(0)
"""
    assert (
        subprocess.run([tmp_path / "venv/bin/python3", "-ISc", code], check=False).returncode == 0
    )


def test_the_installed_command_starts_and_tells_its_version(fresh: Engine) -> None:
    from rootless import __version__

    assert fresh.ok("--version").startswith(f"rootless version {__version__},")
    assert not fresh.data.exists(), "asking for the version made a store"
