"""`rootless quadlet`: what quadlet files become, and their installing; and the verb that systemd's generator calls."""

from __future__ import annotations

import os

from rootless.cli.table import Command, Option
from rootless.errors import NotFound, RootlessError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation
    from rootless.systemd.quadlet_file import QuadletError
    from rootless.systemd.quadlet_units import Unit

OPTIONS = (
    Option("dryrun", "bool", "Print the units that the files become, and every mistake in them"),
    Option("force", "bool", "rm: stop what runs; install: replace files", short="f"),
    Option("format", "str", "list: print as JSON", choices=("json",)),
    Option("user", "bool", "For the user's manager, which is the only one there is", hidden=True),
)
_VERBS = {"install": (1, None), "list": (0, 0), "print": (1, None), "rm": (1, None)}
_GENERATOR = "rootless-user-generator"
_MARK = "# made by rootless quadlet"


def _environment() -> tuple[list[str], str]:
    from rootless import paths
    from rootless.systemd.quadlet import folders

    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    config = paths.config_home()
    return folders(os.environ, os.getuid(), config, runtime), config


def _units(*, warn: bool = False) -> tuple[list[Unit], list[QuadletError]]:
    from rootless.systemd.quadlet import Generator, find
    from rootless.systemd.units import program

    sources, errors = find(_environment()[0])
    made = Generator(sources, program())
    units, more = made.run()
    if warn:
        _warn([*made.warnings, *_shortcomings(units)])
    return units, errors + more


def generator(words: list[str]) -> int:
    """systemd.generator(7): three output folders. Messages go to the journal by standard error; the status says it all."""
    from rootless.systemd.quadlet import write

    if len(words) != 3:
        raise Usage("quadlet-generator takes the three folders that systemd gives it")
    units, errors = _units(warn=True)
    if units:
        write(units, words[0])
    _tell(errors)
    return 1 if errors else 0


def _shortcomings(units: list[Unit]) -> list[str]:
    """What commands of units ask for that this version has not got, or that no command line may say.

    It is the command line's own reading that finds it, so that nothing is told of a command that has come since. What a
    specifier may still turn into something else is left to systemd.
    """
    from rootless.cli.parse import HelpWanted, VersionWanted, check_args, parse
    from rootless.container.options import UNSUPPORTED

    told: list[str] = []
    for unit in units:
        for words in unit.commands:
            why = ""
            try:
                inv = parse(words[1:])
                check_args(inv)
                asked = (name for name, value in inv.options.items() if value and inv.given(name))
                missing = next(
                    (name for name in asked if name.replace("-", "_") in UNSUPPORTED), ""
                )
                if missing:
                    why = f"--{missing}: {UNSUPPORTED[missing.replace('-', '_')]}"
            except RootlessError as error:
                why = error.message.partition("\n")[0]
            except (HelpWanted, VersionWanted):
                why = f"`{' '.join(words[1:])}` shows a help"
            if why and not set(why) & {"%", "$"}:
                told.append(f"{unit.source.path}: {unit.name} cannot start: {why}")
    return list(dict.fromkeys(told))


def _tell(errors: list[QuadletError]) -> None:
    for error in errors:
        os.write(2, f"rootless quadlet: {error.message}\n".encode("utf-8", "surrogateescape"))


def _warn(texts: list[str]) -> None:
    for text in texts:
        os.write(2, f"rootless quadlet: warning: {text}\n".encode("utf-8", "surrogateescape"))


def main(inv: Invocation) -> int:
    if inv.flag("dryrun"):
        return dry_run()
    verb, *names = inv.args
    if verb == "install":
        return install(names, force=inv.flag("force"))
    if verb == "print":
        return show(names)
    if verb == "rm":
        return remove(names, force=inv.flag("force"))
    return listing(inv.text("format"))


def dry_run() -> int:
    from rootless.cli.output import line

    units, errors = _units(warn=True)
    for unit in units:
        line(f"---{unit.name}---\n{unit.text}")
    _tell(errors)
    return 1 if errors else 0


def listing(form: str) -> int:
    from rootless.cli.output import line, to_json

    units, errors = _units()
    states = _states([unit.name for unit in units])
    rows = [
        {
            "Name": unit.source.name,
            "UnitName": unit.name,
            "Path": unit.source.path,
            "Status": states.get(unit.name, "Not loaded"),
        }
        for unit in units
    ]
    if form == "json":
        line(to_json(rows))
    else:
        titles = {
            "Name": "NAME",
            "UnitName": "UNIT NAME",
            "Path": "PATH ON DISK",
            "Status": "STATUS",
        }
        widths = {
            key: max([len(title), *(len(row[key]) for row in rows)])
            for key, title in titles.items()
        }
        for row in [titles, *rows]:
            line("  ".join(row[key].ljust(widths[key]) for key in titles).rstrip())
    _tell(errors)
    return 1 if errors else 0


def _systemctl(*words: str) -> tuple[int, str]:
    import subprocess

    try:
        done = subprocess.run(
            ["systemctl", "--user", *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stdout or done.stderr


def _states(names: list[str]) -> dict[str, str]:
    if not names:
        return {}
    code, text = _systemctl("show", "--property=Id,LoadState,ActiveState,SubState", *names)
    if code:
        return {}
    found = {}
    for block in text.strip().split("\n\n"):
        facts = dict(row.partition("=")[::2] for row in block.splitlines())
        if facts.get("LoadState") == "loaded":
            found[facts.get("Id", "")] = f"{facts['ActiveState']}/{facts['SubState']}"
    return found


def _home() -> str:
    """The folder that `install` puts files into: the one of the user's that is searched."""
    places, config = _environment()
    if os.environ.get("QUADLET_UNIT_DIRS"):
        return places[0]
    usual = f"{config}/containers/systemd"
    return usual if usual in places else f"{config}/rootless/systemd"


def _unit_home() -> str:
    return f"{_environment()[1]}/systemd/user"


def _refresh() -> None:
    """Have the user's manager see the change. Where no generator is installed, its work is done here."""
    from rootless.systemd.quadlet import has_generator, write

    # What was written before the administrator installed it would hide what it makes.
    units = [] if has_generator(_GENERATOR) else _units()[0]
    home = _unit_home()
    for name in os.listdir(home) if os.path.isdir(home) else ():
        if _is_ours(f"{home}/{name}"):
            _forget(home, name)
    if units := [one for one in units if not os.path.lexists(f"{home}/{one.name}")]:
        write(units, home)
    _systemctl("daemon-reload")


def _is_ours(path: str) -> bool:
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().startswith(_MARK)
    except (OSError, ValueError):
        return False


def _forget(home: str, name: str) -> None:
    for folder, _, names in os.walk(home):
        for one in names:
            path = f"{folder}/{one}"
            if os.path.islink(path) and os.path.basename(os.readlink(path)) == name:
                os.unlink(path)
    os.unlink(f"{home}/{name}")


def install(paths: list[str], *, force: bool) -> int:
    """Put files where they are found; all are checked before the first is copied."""
    from rootless.cli.output import line
    from rootless.files import make_dirs, read_bytes, write_atomic
    from rootless.systemd.quadlet import Generator, find, has_generator
    from rootless.systemd.quadlet_file import load
    from rootless.systemd.quadlet_keys import KINDS
    from rootless.systemd.units import program

    home = _home()
    new = [load(path) for path in paths]
    for path, source in zip(paths, new, strict=True):
        if source.name.rpartition(".")[2] not in KINDS:
            raise RootlessError(
                f"{path}: unsupported file type: its name must end with .{', .'.join(KINDS)}"
            )
    others, _ = find(_environment()[0])
    names = {source.name for source in new}
    made = Generator([one for one in others if one.name not in names] + new, program())
    units, errors = made.run()
    wrong = [
        error for error in errors if any(error.message.startswith(f"{path}:") for path in paths)
    ]
    if wrong:
        _tell(wrong)
        raise RootlessError("nothing was installed")
    _warn(
        [
            text
            for text in _shortcomings(units)
            if text.startswith(tuple(f"{one}:" for one in paths))
        ]
    )
    for source in new:
        if os.path.lexists(f"{home}/{source.name}") and not force:
            raise RootlessError(
                f"{home}/{source.name} is there already", hint="--force replaces it"
            )
    for unit in () if has_generator(_GENERATOR) else units:
        own = f"{_unit_home()}/{unit.name}"
        if os.path.lexists(own) and not _is_ours(own) and unit.source in new:
            raise RootlessError(
                f"{own} is there already, and not made from a quadlet file",
                hint="another ServiceName= in the file, or another name for it",
            )
    make_dirs(home, 0o755)
    for path, source in zip(paths, new, strict=True):
        write_atomic(f"{home}/{source.name}", read_bytes(path), 0o644)
        line(f"{home}/{source.name}")
    _refresh()
    return 0


def _sources(names: list[str]) -> list[str]:
    """The paths of installed files, by file name or by their services' names."""
    units, _ = _units()
    found = []
    for name in names:
        path = next((one.source.path for one in units if name in (one.source.name, one.name)), None)
        if path is None:
            path = next(
                (
                    f"{place}/{name}"
                    for place in _environment()[0]
                    if os.path.isfile(f"{place}/{name}")
                ),
                None,
            )
        if path is None or "/" in name:
            raise NotFound(f"no quadlet file with name {name!r} found: no such quadlet")
        found.append(path)
    return found


def show(names: list[str]) -> int:
    from rootless.cli.output import line

    for path in _sources(names):
        with open(path, encoding="utf-8") as file:
            line(file.read().rstrip("\n"))
    return 0


def remove(names: list[str], *, force: bool) -> int:
    from rootless.cli.output import line

    units = {unit.source.path: unit.name for unit in _units()[0]}
    paths = _sources(names)
    for path in paths:
        name = units.get(path, "")
        state = _states([name]).get(name, "") if name else ""
        if state.startswith(("active", "activating")):
            if not force:
                raise RootlessError(
                    f"{name} is running", hint=f"`systemctl --user stop {name}` first, or --force"
                )
            code, text = _systemctl("stop", name)
            if code:
                raise RootlessError(f"cannot stop {name}: {text.strip()}")
    for path in paths:
        os.unlink(path)
        line(os.path.basename(path))
    _refresh()
    return 0


def check(inv: Invocation) -> None:
    if inv.flag("dryrun"):
        if inv.args:
            raise Usage(
                "--dryrun takes no arguments; QUADLET_UNIT_DIRS=FOLDER limits it to a folder"
            )
        return
    verb = inv.args[0] if inv.args else ""
    if verb not in _VERBS:
        raise Usage(
            f"say --dryrun or one of {', '.join(_VERBS)}" + (f", not {verb}" if verb else "")
        )
    least, most = _VERBS[verb]
    count = len(inv.args) - 1
    if count < least or (most is not None and count > most):
        raise Usage(
            f"quadlet {verb}: {'names are missing' if count < least else 'takes no arguments'}"
        )


COMMAND = Command(
    "[options] [list | install FILE... | print NAME... | rm NAME...]",
    main,
    OPTIONS,
    args=check,
    interspersed=True,
    description=(
        "Quadlet files (.container, .pod, .kube, .volume, .network, .image, .build; podman-systemd.unit(5)) become services of the user's manager. "
        "--dryrun prints what they become; its exit code is not 0 where a file has a mistake. install puts files where they are "
        "found, after a check; list, print and rm work on those. At each start of the manager its generator makes the units anew: "
        "the administrator links rootless-user-generator (beside the package, in systemd-units) to /etc/systemd/user-generators. "
        "Where it is not, install and rm write the units themselves, to systemd/user below the user's configuration folder, and "
        "they come with every boot all the same. Files in containers/systemd are left to Podman where its generator is installed "
        "and not masked (a link to /dev/null of its name in /etc/systemd/user-generators); those in rootless/systemd never are."
    ),
    examples=(
        "quadlet --dryrun",
        "quadlet install web.container",
        "quadlet list",
        "quadlet rm web.container",
    ),
)
