"""ps: the host's pids of a container's processes, or what the host's ps(1) says of them."""

from __future__ import annotations

from rootless import quickjson as json
from rootless.errors import RootlessError, Usage
from rootless.files import write_all
from rootless.linux.idmap import find_trusted
from rootless.ocicli import records
from rootless.ocicli.members import members
from rootless.ocicli.spoken import output_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.ocicli.commandline import Given


def run(settings: Given, given: Given) -> int:
    """The command."""
    shape = given.text("format") or "table"
    words = given.words[1:]
    # runc takes the option after the id as well: what follows that is for ps(1) otherwise.
    if words[:1] in (["--format"], ["-f"]) and len(words) > 1:
        shape, words = words[1], words[2:]
    if shape not in ("table", "json"):
        raise Usage(f"invalid format option: {shape}")
    record = records.load(settings, given.words[0])
    pids = sorted(members(record))
    if shape == "json":
        write_all(1, (json.dumps(pids, separators=(",", ":")) + "\n").encode())
        return 0
    write_all(1, _table(words or ["-ef"], pids))
    return 0


def _table(words: list[str], pids: list[int]) -> bytes:
    """The lines of ps(1) that are about these processes."""
    program = find_trusted("ps")
    if program is None:
        raise RootlessError("ps: the program is not there", hint="--format json needs none")
    said, code = output_of(program, ["ps", *words], 1)
    if code:
        raise RootlessError(f"ps {' '.join(words)}: exit status {code}")
    lines = said.splitlines(keepends=True)
    headings = lines[0].split() if lines else []
    if b"PID" not in headings:
        raise RootlessError(f"ps {' '.join(words)}: shows no PID to choose by")
    column = headings.index(b"PID")
    wanted = {str(one).encode() for one in pids}
    kept = [
        line for line in lines[1:] if len(line.split()) > column and line.split()[column] in wanted
    ]
    return lines[0] + b"".join(kept)
