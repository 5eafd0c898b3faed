"""state: the document that says what a container does at this moment."""

from __future__ import annotations

from rootless import quickjson as json
from rootless.files import write_all
from rootless.ocicli import records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.ocicli.commandline import Given


def run(settings: Given, given: Given) -> int:
    """The command."""
    record = records.load(settings, given.words[0])
    write_all(1, (json.dumps(record.state(), indent=2) + "\n").encode())
    return 0
