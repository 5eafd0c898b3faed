"""`rootless stats`: what containers use, once or again and again."""

from __future__ import annotations

from rootless.cli.options import LATEST, all_option, format_option
from rootless.cli.table import Command, Option
from rootless.errors import NotFound, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.table import Invocation
    from rootless.container.engine import Engine
    from rootless.container.stats import Reading
    from rootless.container.status import Status

OPTIONS = (
    all_option("Containers that do not run, too"),
    format_option(short=""),
    Option(
        "interval", "int", "Seconds between two reports", short="i", metavar="seconds", default=5
    ),
    LATEST,
    Option("no-reset", help="Do not clear the screen between two reports"),
    Option("no-stream", help="Report once"),
    Option("no-trunc", help="Print whole ids"),
)
_HEADINGS = {
    "ID": "ID",
    "ContainerID": "ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "CPU": "CPU",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemUsageBytes": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET IO",
    "BlockIO": "BLOCK IO",
    "PIDS": "PIDS",
    "UpTime": "CPU TIME",
    "AVGCPU": "AVG CPU %",
}
_COLUMNS = (
    "ID",
    "Name",
    "CPUPerc",
    "MemUsage",
    "MemPerc",
    "NetIO",
    "BlockIO",
    "PIDS",
    "UpTime",
    "AVGCPU",
)


def main(inv: Invocation) -> int:
    import time

    from rootless.cli import output
    from rootless.container.engine import open_engine
    from rootless.container.stats import read

    engine = open_engine(inv.globals)
    form = inv.text("format")
    before: dict[str, Reading] = {}
    while True:
        readings = [read(status, before.get(status.id)) for status in _wanted(engine, inv)]
        before = {reading.id: reading for reading in readings}
        rows = [_row(reading, full=inv.flag("no-trunc")) for reading in readings]
        text = _shown(rows, form)
        if not inv.flag("no-stream") and not inv.flag("no-reset") and form != "json":
            output.clear_screen()
        output.write(text)
        if inv.flag("no-stream"):
            return 0
        time.sleep(inv.options["interval"])


def _wanted(engine: Engine, inv: Invocation) -> list[Status]:
    """The containers of this report: those named, or all that run now."""
    from rootless.container.status import all_statuses, status_of

    if inv.flag("latest"):
        statuses = all_statuses(engine)
        if not statuses:
            raise NotFound("unable to get container: no containers: no such container")
        return statuses[-1:]
    if inv.args:
        return [status_of(engine, engine.containers.lookup(name)) for name in inv.args]
    return [one for one in all_statuses(engine) if one.is_running or inv.flag("all")]


def _row(reading: Reading, *, full: bool) -> dict[str, Any]:
    from rootless.cli import output
    from rootless.cli.gotime import Duration

    return {
        "ID": reading.id if full else output.short_id(reading.id),
        "ContainerID": reading.id,
        "Name": reading.name,
        "CPUPerc": f"{reading.cpu_percent:.2f}%",
        "CPU": reading.cpu_percent,
        "MemUsage": _pair(reading.memory_bytes, reading.memory_limit),
        "MemUsageBytes": (
            f"{output.binary_size(reading.memory_bytes)} / {output.binary_size(reading.memory_limit)}"
        ),
        "MemPerc": f"{reading.memory_percent:.2f}%",
        "NetIO": _pair(reading.net_in, reading.net_out),
        "BlockIO": _pair(reading.block_read, reading.block_written),
        "PIDS": str(reading.pids) if reading.pids else "--",
        "PIDs": reading.pids,
        "UpTime": str(Duration(reading.cpu_ns)),
        "Up": str(Duration(reading.cpu_ns)),
        "Duration": reading.cpu_ns,
        "PerCPU": [],  # cgroup v2 does not count them
        "AVGCPU": f"{reading.average_percent:.2f}%",
        "AvgCPU": reading.average_percent,
        "CPUNano": reading.cpu_ns,
        "CPUSystemNano": reading.system_ns,
        "SystemNano": reading.time_ns,
        "MemLimit": reading.memory_limit,
        "NetInput": reading.net_in,
        "NetOutput": reading.net_out,
        "BlockInput": reading.block_read,
        "BlockOutput": reading.block_written,
    }


def _pair(first: int, second: int) -> str:
    from rootless.cli import output

    if not first and not second:
        return "-- / --"
    return f"{output.human_size(first)} / {output.human_size(second)}"


def _shown(rows: list[dict[str, Any]], form: str) -> str:
    from rootless.cli import listing, output

    if listing.is_json(form):
        keys = {
            "id": "ID",
            "name": "Name",
            "cpu_time": "UpTime",
            "cpu_percent": "CPUPerc",
            "avg_cpu": "AVGCPU",
            "mem_usage": "MemUsage",
            "mem_percent": "MemPerc",
            "net_io": "NetIO",
            "block_io": "BlockIO",
            "pids": "PIDS",
        }
        return output.to_json([{key: row[of] for key, of in keys.items()} for row in rows]) + "\n"
    if not form or form == "table":
        return output.table(
            [
                [_HEADINGS[key] for key in _COLUMNS],
                *([row[key] for key in _COLUMNS] for row in rows),
            ]
        )
    return listing.render("stats", rows, form, _HEADINGS, go_type="containers.containerStats")


def check(inv: Invocation) -> None:
    if inv.options["interval"] < 1:
        raise Usage("invalid interval, must be a positive number greater zero")
    if sum((inv.flag("all"), inv.flag("latest"), bool(inv.args))) > 1:
        raise Usage("--all, --latest and containers cannot be used together")


COMMAND = Command(
    "[options] [CONTAINER...]",
    main,
    OPTIONS,
    args=check,
    description="Shows what running containers use of the CPU, memory, network and block devices.",
    examples=("stats", "stats --no-stream web", "stats --format json --no-stream"),
    complete="containers",
)
