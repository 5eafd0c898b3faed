"""`make bench`: this engine and podman on the same machine, in alternation, round by round.

A ratio is formed of each round's two times, so that a slow spell of the machine falls on both; shown are its median, minimum
and maximum. Below 1 this engine is faster (or smaller).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import statistics
import sys
from typing import TYPE_CHECKING, Any

from tests.bench import material, runtimes, sides

if TYPE_CHECKING:
    from tests.bench.containers import Case

# Each has a list CASES. A module may be absent while its commands are.
MODULES = ("containers", "networks", "images")


def measure(case: Case, both: list[sides.Side], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {side.name: [] for side in both}
    with contextlib.ExitStack() as stack:
        prepared = {side.name: stack.enter_context(case.prepare(side)) for side in both}
        for at in range(rounds + 1):
            # Whoever goes second may find warmer caches: take turns.
            for side in both if at % 2 else reversed(both):
                value = case.measure(side, prepared[side.name])
                if at:  # the first round warms up
                    times[side.name].append(value)
    return times


def row(case: Case, times: dict[str, list[float]]) -> str:
    scale = 1000 if case.unit == "ms" else 1
    cells = [f"{case.name:<26}"]
    cells += [f"{statistics.median(values) * scale:>9.1f}" for values in times.values()]
    if len(times) == 2:
        ours, theirs = times.values()
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        middle = statistics.median(ratios)
        cells.append(f"{middle:>7.2f}  ({min(ratios):.2f} to {max(ratios):.2f})".ljust(26))
        cells.append(f"{case.target:.2f} {'yes' if middle <= case.target else 'NO'}")
    return " ".join(cells)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument(
        "--only", action="append", default=[], help="cases whose name contains this (repeatable)"
    )
    parser.add_argument("--rounds", type=int, default=20, help="rounds of an ordinary case (20)")
    parser.add_argument("--quick", action="store_true", help="leave out what takes minutes")
    parser.add_argument("--peer", default="podman", help='the engine to compare with, or "none"')
    parser.add_argument(
        "--scale", type=float, default=1.0, help="size of the images that are moved (1: 1.4 GB)"
    )
    parser.add_argument("--json", help="write every single time to this file")
    options = parser.parse_args()
    material.scale = options.scale
    cases: list[Case] = []
    for name in MODULES:
        cases += importlib.import_module(f"tests.bench.{name}").CASES
    if options.only:
        cases = [case for case in cases if any(word in case.name for word in options.only)]
    elif options.quick:
        cases = [case for case in cases if not case.slow]
    with_runtimes = not options.only or any(word in runtimes.NAME for word in options.only)
    if not cases and not with_runtimes:
        parser.error("no case has such a name")
    both = sides.make_sides(options.peer)
    results: dict[str, Any] = {}
    status = 0
    try:
        versions = ", ".join(side.ok("--version") for side in both)
        print(f"{versions}; {sides.describe()}", flush=True)
        print(
            f"{'medians in ms (KiB: memory)':<26}",
            *(f"{side.name:>9}" for side in both),
            "   ratio  (min to max)         target met",
        )
        for case in cases:
            rounds = case.rounds or options.rounds
            try:
                times = measure(case, both, min(rounds, options.rounds))
            except (RuntimeError, AssertionError) as error:
                print(f"{case.name:<26} failed: {error}", flush=True)
                status = 1
                continue
            results[case.name] = times
            print(row(case, times), flush=True)
        if with_runtimes:
            results[runtimes.NAME] = runtimes.measure(options.rounds)
            print(*runtimes.report(results[runtimes.NAME]), sep="\n", flush=True)
    finally:
        sides.close(both)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(
                {"versions": versions, "machine": sides.describe(), "times": results},
                file,
                indent=1,
            )
    return status


if __name__ == "__main__":
    sys.exit(main())
