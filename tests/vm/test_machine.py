"""The tests of tests/vm/guest, run in a machine that has systemd as PID 1, before and after it restarts.

Another test: a file tests/vm/guest/test_NAME_vm.py, found by itself; what is to lie beside it goes into `_TESTS` of
package.py. It runs as `user`, who lingers and may sudo (fixture `sudo`); `guest` has no session. `services` installs units.
Marks: `before_reboot` leaves something for `after_reboot` and runs first, on every machine anew; what it makes has the
label `keep`. Everything else runs between the two, and no second time where a machine was lost. The emulation is some 15
times slower than the host: wait until something is so (`until`), start as few containers as prove the point, and look at
files where a command would take a second. Another Debian package in the image: a word in packages.txt; the image is built
anew, which takes some two minutes. By hand: `python3 -m tests.vm`, see __main__.py.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from pathlib import Path

import pytest

from tests.vm.image import image
from tests.vm.machine import Lost, Machine
from tests.vm.package import archive_of_tests, wheel

_PYTEST = "ROOTLESS_TEST_MACHINE=1 python3 -u -m pytest -p no:cacheprovider -v -rfE --durations=12 --timeout 900"
_PHASES = ("before_reboot", "not before_reboot and not after_reboot", "after_reboot")
_MACHINES = 3
_PHASE_S = 2400


def run_phase(machine: Machine, phase: str, passed: set[str]) -> subprocess.CompletedProcess[str]:
    """Run what is marked so and has not passed on an earlier machine."""
    skipped = " ".join(f"--deselect={shlex.quote(name)}" for name in sorted(passed))
    command = f"cd checkout && {_PYTEST} -m '{phase}' {skipped} tests"
    try:
        done = machine.run(command, check=False, timeout=_PHASE_S)
    except Lost as lost:
        if phase == _PHASES[1]:
            passed.update(passed_in(lost.output))
        raise
    if phase == _PHASES[1]:
        passed.update(passed_in(done.stdout))
    return done


def passed_in(output: str) -> list[str]:
    return re.findall(r"^(tests/\S+::.+?) PASSED", output, re.MULTILINE)


def run_all(
    package: Path, passed: set[str], say: list[str]
) -> list[tuple[str, subprocess.CompletedProcess[str]]]:
    started = time.monotonic()
    results = []
    with Machine(image()) as machine:
        say.append(f"machine: {time.monotonic() - started:.0f} s to a log-in")
        machine.install(package)
        machine.put(archive_of_tests(), "checkout")
        for phase in _PHASES:
            began = time.monotonic()
            if phase == "after_reboot":
                machine.reboot()
            done = run_phase(machine, phase, passed)
            results.append((phase, done))
            last = done.stdout.splitlines()[-1] if done.stdout else done.stderr
            say.append(f"machine, {phase}, {time.monotonic() - began:.0f} s: {last.strip('= ')}")
            say.extend(line for line in done.stdout.splitlines() if re.match(r"[\d.]+s ", line))
    return results


@pytest.mark.vm
@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.needs("qemu-system-x86_64", "debootstrap", "mke2fs", "ssh", "subids")
def test_the_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One test for all, since they share a machine whose start takes a minute; what failed in it is printed."""
    package = wheel(tmp_path)
    passed: set[str] = set()
    say: list[str] = []
    for left in reversed(range(_MACHINES)):
        try:
            results = run_all(package, passed, say)
            break
        except Lost as lost:
            say.append(f"machine: lost, {len(passed)} tests have passed in it: {lost}")
            if not left:
                raise
    with capsys.disabled():
        print("\n" + "\n".join(say))
    for phase, done in results:
        # 5: nothing was left to run.
        assert done.returncode in (0, 5), f"in the machine, {phase}:\n{done.stdout}\n{done.stderr}"
