"""slirp.firewall: the rules that follow from networks and published ports."""

from __future__ import annotations

from slirp.divert import ASKED, MARK
from slirp.firewall import Zone, ruleset


def test_plain_network_goes_out_behind_our_address() -> None:
    script = ruleset([Zone("podman1", ["10.89.0.0/24"], False, "")])
    assert script.startswith("table inet rootless\nflush table inet rootless\n")
    assert (
        'ip saddr 10.89.0.0/24 ip daddr != 10.89.0.0/24 oifname != "podman1" masquerade' in script
    )
    assert "drop" not in script


def test_internal_network_crosses_no_border() -> None:
    script = ruleset([Zone("podman1", ["10.89.0.0/24"], True, "")])
    assert 'iifname "podman1" oifname != "podman1" drop' in script
    assert 'oifname "podman1" iifname != "podman1" drop' in script
    assert "10.89.0.0/24" not in script


def test_isolated_networks_are_kept_from_isolated_ones_only() -> None:
    zones = [
        Zone("a", ["10.0.0.0/24"], False, "true"),
        Zone("b", ["10.0.1.0/24"], False, "true"),
        Zone("c", ["10.0.2.0/24"], False, ""),
    ]
    script = ruleset(zones)
    assert 'iifname "a" oifname "b" drop' in script
    assert 'iifname "b" oifname "a" drop' in script
    assert '"c" drop' not in script


def test_strictly_isolated_network_is_kept_from_all() -> None:
    zones = [Zone("a", [], False, "strict"), Zone("c", [], False, "")]
    script = ruleset(zones)
    assert 'iifname "a" oifname "c" drop' in script
    assert 'iifname "c" oifname "a" drop' in script


def test_answers_to_a_relay_come_back_to_it() -> None:
    script = ruleset([])
    assert f"meta mark {ASKED} ct mark set meta mark" in script
    assert f"ct mark {ASKED} meta mark set {MARK}" in script
