"""runc's command line: options before the command, the command's own, and words; in one or two dashes, as Go has them."""

from __future__ import annotations

from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Kinds of an option: given or not; one text; one whole number; as often as one likes.
SWITCH, TEXT, NUMBER, TEXTS = range(4)


class Command:
    """A command's options and words; its function `run` is in the module of the same name or in `module`."""

    __slots__ = ("module", "function", "options", "short", "words", "more", "about", "stops")

    def __init__(
        self,
        about: str,
        module: str,
        words: str,
        options: dict[str, int],
        short: dict[str, str] | None = None,
        *,
        function: str = "run",
        stops: bool = False,
    ) -> None:
        self.about = about
        self.module = module
        self.function = function
        self.words = words  # as the help shows them: `ID` must be given, `[SIGNAL]` may be, `[COMMAND...]` is open
        self.options = options
        self.short = short or {}
        self.stops = stops  # what follows the first word is no option of ours

    @property
    def least(self) -> int:
        return sum(1 for word in self.words.split() if not word.startswith("["))

    @property
    def most(self) -> int:
        return 1 << 30 if "..." in self.words else len(self.words.split())


class Given:
    """What was given: options by their name, words in their order."""

    __slots__ = ("options", "words")

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.words: list[str] = []

    def text(self, name: str) -> str:
        return self.options.get(name) or ""

    def switch(self, name: str) -> bool:
        return bool(self.options.get(name))

    def number(self, name: str) -> int:
        return self.options.get(name) or 0

    def texts(self, name: str) -> list[str]:
        return self.options.get(name) or []


def parse(
    words: list[str], options: dict[str, int], short: dict[str, str], *, stops: bool
) -> Given:
    """Sort the words of one level; with `stops` all from the first plain word on is left as it is."""
    given = Given()
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word == "--":
            given.words += words[at:]
            break
        if len(word) < 2 or word[0] != "-":
            given.words.append(word)
            if stops:
                given.words += words[at:]
                break
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if name not in options and name not in short:
            letters = [short.get(letter, letter) for letter in word[1:]]
            if all(options.get(letter) == SWITCH for letter in letters):  # -it
                for letter in letters:
                    given.options[letter] = True
                continue
            if word[1] != "-" and options.get(short.get(word[1], ""), SWITCH) != SWITCH:  # -u1000
                name, equals, value = word[1], "=", word[2:]
            else:
                raise Usage(f"flag provided but not defined: {word.partition('=')[0]}")
        name = short.get(name, name)
        kind = options[name]
        if kind == SWITCH:
            given.options[name] = _truth(name, value) if equals else True
            continue
        if not equals:
            if at == len(words):
                raise Usage(f"flag needs an argument: -{name}")
            value = words[at]
            at += 1
        if kind == TEXTS:
            given.options.setdefault(name, []).append(value)
        elif kind == NUMBER:
            given.options[name] = _whole(name, value)
        else:
            given.options[name] = value
    return given


def _truth(name: str, value: str) -> bool:
    if value.lower() in ("1", "t", "true"):
        return True
    if value.lower() in ("0", "f", "false"):
        return False
    raise Usage(f'invalid boolean value "{value}" for -{name}')


def _whole(name: str, value: str) -> int:
    try:
        return int(value, 10)
    except ValueError:
        raise Usage(f'invalid value "{value}" for flag -{name}: is no number') from None
