"""What a registry wants before it lets anybody in: the WWW-Authenticate header (RFC 9110, 11.6.1)."""

from __future__ import annotations


class Challenge:
    """One challenge of a WWW-Authenticate header."""

    __slots__ = ("parameters", "scheme")

    def __init__(self, scheme: str, parameters: dict[str, str]) -> None:
        self.scheme = scheme
        self.parameters = parameters


def parse_challenges(text: str) -> list[Challenge]:
    """Parse one WWW-Authenticate header, which may hold several challenges (RFC 9110, 11.6.1)."""
    found: list[Challenge] = []
    position, length = 0, len(text)
    while position < length:
        if text[position] in ", \t":
            position += 1
            continue
        start = position
        while position < length and (
            text[position].isalnum() or text[position] in "!#$%&'*+-.^_`|~"
        ):
            position += 1
        word = text[start:position]
        while position < length and text[position] in " \t":
            position += 1
        if not word:
            position += 1
        elif position < length and text[position] == "=" and found:
            position += 1
            while position < length and text[position] in " \t":
                position += 1
            value, position = _parameter_value(text, position)
            found[-1].parameters.setdefault(word.lower(), value)
        else:
            found.append(Challenge(word.lower(), {}))
    return found


def _parameter_value(text: str, position: int) -> tuple[str, int]:
    if text[position : position + 1] != '"':
        end = position
        while end < len(text) and text[end] not in ", \t":
            end += 1
        return text[position:end], end
    value = ""
    position += 1
    while position < len(text) and text[position] != '"':
        if text[position] == "\\":
            position += 1
        value += text[position : position + 1]
        position += 1
    return value, position + 1
