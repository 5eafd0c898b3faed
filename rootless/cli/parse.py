"""Read a command line exactly as Podman's parser (cobra and pflag) does, with its messages.

This is the reader for every ordinary call, so it imports nothing but the tables. Mistakes raise `Usage` in Podman's
words with our name; `--help` raises `HelpWanted`. `help` reads the same tables at leisure.
"""

from __future__ import annotations

from rootless.cli.table import (
    ABSENT,
    ALIASES,
    BEFORE_ONLY,
    COMMANDS,
    GLOBALS,
    GROUPS,
    Command,
    Invocation,
    Option,
    load,
)
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    _Slot = tuple[Option, dict[str, Any], set[str]]

PROGRAM = "rootless"

_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_INTEGERS = {
    "int": (-(1 << 63), (1 << 63) - 1),
    "int32": (-(1 << 31), (1 << 31) - 1),
    "uint": (0, (1 << 64) - 1),
}


class HelpWanted(Exception):
    """Help for a command, a group ("" is the program) was asked for, or is the answer to a group's bare name."""

    def __init__(self, path: str, *, missing: bool = False) -> None:
        super().__init__(path)
        self.path = path
        self.missing = missing


class VersionWanted(Exception):
    """`--version` stood before any command."""


def quote(text: str) -> str:
    """A string as Go's %q prints it."""
    out = []
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif char.isprintable():
            out.append(char)
        elif char in "\a\b\f\n\r\t\v":
            out.append("\\" + "abfnrtv"["\a\b\f\n\r\t\v".index(char)])
        elif 0xDC80 <= ord(char) <= 0xDCFF:  # a byte that is not UTF-8
            out.append(f"\\x{ord(char) - 0xDC00:02x}")
        elif ord(char) < 0x80:
            out.append(f"\\x{ord(char):02x}")
        else:
            out.append(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}")
    return '"' + "".join(out) + '"'


def integer(text: str, kind: str = "int") -> int:
    """An integer as Go's strconv reads it with base 0; ValueError carries Go's words."""
    low, high = _INTEGERS[kind]
    call = "ParseUint" if kind == "uint" else "ParseInt"
    wrong = f"strconv.{call}: parsing {quote(text)}: "
    digits = text
    if kind != "uint" and digits[:1] in ("+", "-"):
        digits = digits[1:]
    # int() allows blanks, other scripts' digits and a second sign; Go allows none of them.
    if not digits.isascii() or not digits[:1].isdigit() or digits != digits.strip():
        raise ValueError(wrong + "invalid syntax")
    if len(digits) > 1 and digits[0] == "0" and digits[1] in "01234567_":
        digits = "0o" + digits[1:]
    try:
        value = int(digits, 0)
    except ValueError:
        raise ValueError(wrong + "invalid syntax") from None
    if text[0] == "-":
        value = -value
    if not low <= value <= high:
        raise ValueError(wrong + "value out of range")
    return value


def real(text: str) -> float:
    try:
        if not text.isascii() or text != text.strip():
            raise ValueError
        return float(text)
    except ValueError:
        raise ValueError(f"strconv.ParseFloat: parsing {quote(text)}: invalid syntax") from None


def csv(text: str) -> list[str]:
    """One record of comma-separated values, as Go's encoding/csv reads it; ValueError carries Go's words."""
    if '"' not in text:
        return text.split(",") if text else []
    fields: list[str] = []
    at = 0
    while True:
        if text[at : at + 1] != '"':
            end = text.find(",", at)
            field = text[at:] if end < 0 else text[at:end]
            if '"' in field:
                column = len(text[: at + field.index('"')].encode("utf-8", "surrogateescape")) + 1
                raise ValueError(
                    f'parse error on line 1, column {column}: bare " in non-quoted-field'
                )
            fields.append(field)
            if end < 0:
                return fields
            at = end + 1
            continue
        at += 1
        parts = []
        while True:
            end = text.find('"', at)
            if end < 0:
                column = len(text.encode("utf-8", "surrogateescape")) + 1
                raise ValueError(
                    f'parse error on line 1, column {column}: extraneous or missing " in quoted-field'
                )
            parts.append(text[at:end])
            at = end + 1
            if text[at : at + 1] != '"':
                break
            parts.append('"')
            at += 1
        fields.append("".join(parts))
        if at == len(text):
            return fields
        if text[at] != ",":
            column = len(text[:at].encode("utf-8", "surrogateescape"))
            raise ValueError(
                f'parse error on line 1, column {column}: extraneous or missing " in quoted-field'
            )
        at += 1


def _pairs(text: str) -> dict[str, str]:
    # pflag splits at commas only where there is more than one "=", so that "a=b,c" is one pair.
    items = csv(text) if text.count("=") > 1 else [text.strip('"')]
    pairs = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign:
            raise ValueError(f"{item} must be formatted as key=value")
        pairs[key] = value
    return pairs


def _address(text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise ValueError(f"invalid string being converted to IP address: {text}") from None


def convert(option: Option, text: str) -> Any:
    """The value of one occurrence of an option; ValueError carries Go's words."""
    kind = option.kind
    if kind == "bool":
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        raise ValueError(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")
    if kind == "str":
        if option.choices and text not in option.choices:
            raise ValueError(
                f'{quote(text)} is not a valid value.  Choose from: "{", ".join(option.choices)}"'
            )
        return text
    if kind == "list":
        return [text]
    if kind == "csv":
        return csv(text)
    if kind in _INTEGERS:
        return integer(text, kind)
    if kind == "float":
        return real(text)
    if kind == "duration":
        from rootless import durations

        return durations.parse(text)
    if kind in ("ints", "uints"):
        return [integer(part, kind[:-1]) for part in text.split(",")]
    if kind == "ips":
        return [_address(part) for part in csv(text.replace('"', ""))]
    if kind == "map":
        return _pairs(text)
    raise AssertionError(kind)


def _see(path: str) -> str:
    return f"\nSee '{(PROGRAM + ' ' + path).strip()} --help'"


class Flags:
    """The options that may stand at this place of the command line, by the names they are given with."""

    __slots__ = ("globals", "names", "path", "shorts")

    def __init__(self, path: str) -> None:
        self.path = path
        self.globals: dict[str, Any] = {}
        self.names: dict[str, _Slot] = {}
        self.shorts: dict[str, _Slot] = {}

    def add(self, options: Sequence[Option], values: dict[str, Any], given: set[str]) -> None:
        names, shorts = self.names, self.shorts
        for option in options:
            default = option.default
            values[option.name] = default.copy() if default.__class__ in (list, dict) else default
            slot = (option, values, given)
            names[option.name] = slot
            for alias in option.aliases:
                names[alias] = slot
            if option.short:
                shorts[option.short] = slot

    def set(self, slot: _Slot, text: str) -> None:
        option, values, given = slot
        try:
            value = convert(option, text)
        except ValueError as error:
            shown = f"-{option.short}, --{option.name}" if option.short else f"--{option.name}"
            raise Usage(
                f"invalid argument {quote(text)} for {quote(shown)} flag: {error}{_see(self.path)}"
            ) from None
        name = option.name
        if option.refused and value is not False:
            raise Usage(f"--{name} is not supported: {option.refused}")
        if name in given and option.many:
            # The first use replaces the default, later ones add to it.
            if option.kind == "map":
                values[name].update(value)
            else:
                values[name].extend(value)
        else:
            values[name] = value
            given.add(name)

    def long(self, word: str, words: list[str], at: int) -> int:
        """Take the option `word`; returns where the next word is."""
        name, sign, value = word[2:].partition("=")
        if not name or name[0] == "-":
            raise Usage(f"bad flag syntax: {word}{_see(self.path)}")
        slot = self.names.get(name)
        if slot is None:
            if name == "help":
                raise HelpWanted(self.path)
            raise Usage(f"unknown flag: --{name}{_see(self.path)}")
        if not sign:
            implied = slot[0].implied
            if implied is not None:
                value = implied
            elif at < len(words):
                value = words[at]
                at += 1
            else:
                raise Usage(f"flag needs an argument: {word}{_see(self.path)}")
        self.set(slot, value)
        return at

    def short(self, word: str, words: list[str], at: int) -> int:
        """Take the bundle of one-letter options `word`; returns where the next word is."""
        rest = word[1:]
        while rest:
            letter = rest[0]
            slot = self.shorts.get(letter)
            if slot is None:
                if letter == "h":
                    raise HelpWanted(self.path)
                raise Usage(f"unknown shorthand flag: {_rune(letter)} in -{rest}{_see(self.path)}")
            if len(rest) > 2 and rest[1] == "=":
                self.set(slot, rest[2:])
                return at
            implied = slot[0].implied
            if implied is not None:
                self.set(slot, implied)
                rest = rest[1:]
                continue
            if len(rest) > 1:
                self.set(slot, rest[1:])
                return at
            if at < len(words):
                self.set(slot, words[at])
                return at + 1
            raise Usage(f"flag needs an argument: {_rune(letter)} in -{rest}{_see(self.path)}")
        return at


def _rune(char: str) -> str:
    return "'\\''" if char == "'" else "'" + quote(char)[1:-1].replace('\\"', '"') + "'"


def _read_globals(words: list[str], at: int, flags: Flags) -> int:
    """Take options up to the first word that is none; returns where that is."""
    while at < len(words):
        word = words[at]
        if len(word) < 2 or word[0] != "-":
            break
        at += 1
        if word == "--":
            break
        if word[1] == "-":
            at = flags.long(word, words, at)
        else:
            at = flags.short(word, words, at)
    return at


def find(words: list[str], flags: Flags) -> tuple[str, int]:
    """The command that argv names, and where its own words begin."""
    values = flags.globals
    flags.add(GLOBALS, values, set())
    at = 0
    path = ""
    while True:
        at = _read_globals(words, at, flags)
        if values["version"] and not path:
            raise VersionWanted
        if at >= len(words):
            raise HelpWanted(path, missing=not values["help"])
        name = f"{path} {words[at]}" if path else words[at]
        name = ALIASES.get(name, name)
        if name == "help":
            raise HelpWanted(_known(words[at + 1 :]))
        if name in COMMANDS:
            return name, at + 1
        if name not in GROUPS or not _inhabited(name):
            raise _unrecognized(path, words[at])
        path = flags.path = name
        at += 1


def _inhabited(group: str) -> bool:
    start = group + " "
    return any(name.startswith(start) for name in COMMANDS)


def _known(words: list[str]) -> str:
    """The longest command or group that the words begin with, for `help WORD...`."""
    path = ""
    for word in words:
        name = f"{path} {word}" if path else word
        name = ALIASES.get(name, name)
        if name not in COMMANDS and name not in GROUPS:
            raise _unrecognized(path, word)
        path = name
    return path


def _unrecognized(path: str, word: str) -> Usage:
    name = f"{path} {word}".strip()
    if name in ABSENT:
        return Usage(f"rootless has no command `{name}`: {ABSENT[name]}")
    from rootless.cli.help import suggestions

    found = suggestions(path, word)
    did_you_mean = (
        "\n\nDid you mean this?\n" + "".join(f"\t{other}\n" for other in found) if found else ""
    )
    parent = (PROGRAM + " " + path).strip()
    return Usage(
        f"unrecognized command `{PROGRAM} {name}`{did_you_mean}\nTry '{parent} --help' for more information"
    )


def read(path: str, command: Command, words: list[str], at: int, flags: Flags) -> Invocation:
    """Read a command's own words, which begin at `at`."""
    for name in BEFORE_ONLY:
        del flags.names[name]
    flags.shorts.clear()
    flags.path = path
    values: dict[str, Any] = {}
    given: set[str] = set()
    flags.add(command.options, values, given)
    args: list[str] = []
    while at < len(words):
        word = words[at]
        if len(word) < 2 or word[0] != "-":
            if not command.interspersed:
                args.extend(words[at:])
                break
            args.append(word)
            at += 1
            continue
        at += 1
        if word == "--":
            args.extend(words[at:])
            break
        if word[1] == "-":
            at = flags.long(word, words, at)
        else:
            at = flags.short(word, words, at)
    if flags.globals["help"]:
        raise HelpWanted(path)
    invocation = Invocation(path, command, values, args, globals=flags.globals, given=given)
    check_args(invocation)
    return invocation


def check_args(invocation: Invocation) -> None:
    """Refuse too few or too many arguments, in cobra's words."""
    wanted = invocation.command.args
    if not isinstance(wanted, tuple):
        wanted(invocation)
        return
    least, most = wanted
    count = len(invocation.args)
    if count >= least and (most is None or count <= most):
        return
    if most == 0:
        raise Usage(f"`{PROGRAM} {invocation.path}` takes no arguments")
    if least == most:
        raise Usage(f"accepts {least} arg(s), received {count}")
    if most is None:
        raise Usage(f"requires at least {least} arg(s), only received {count}")
    if least == 0:
        raise Usage(f"accepts at most {most} arg(s), received {count}")
    raise Usage(f"accepts between {least} and {most} arg(s), received {count}")


def parse(words: list[str]) -> Invocation:
    """Read a whole command line, importing the one command that it names."""
    flags = Flags("")
    path, at = find(words, flags)
    return read(path, load(path), words, at, flags)
