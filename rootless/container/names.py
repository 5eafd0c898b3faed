"""Names for containers that are given none: an adjective and a tree."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.state import Table

_FIRST = (
    "agile amber ample arctic azure bold brave brisk bright calm civil clear clever cosmic crisp curious daring deep eager "
    "early earnest fair fancy fast fine fluent fond frank free fresh gentle glad golden grand green happy hardy honest "
    "humble jolly keen kind late light lively loyal lucid lucky mellow merry mild modest neat nimble noble novel open "
    "patient plain polite proud prompt pure quick quiet rapid rare ready royal sharp shiny silent silver simple sleek "
    "smart snug sober solid spry stable steady still strong sturdy sunny swift tidy tame tender trusty vivid warm wise witty"
).split()
_SECOND = (
    "acacia alder almond apple ash aspen baobab beech birch bamboo cedar cherry chestnut cork cypress dogwood ebony elder "
    "elm fig fir ginkgo hawthorn hazel hemlock hickory holly hornbeam ironwood ivy juniper larch laurel lemon lilac lime "
    "linden locust magnolia mahogany mango maple medlar mimosa mulberry myrtle oak olive orange palm peach pear pecan pine "
    "plane plum poplar quince redwood rowan rubber sandal sequoia sorb spruce sumac sycamore tamarisk teak thorn tulip "
    "walnut wattle willow yew zelkova"
).split()


def random_name(table: Table) -> str:
    """A name that nobody holds at this moment; whoever takes it first has it."""
    while True:
        value = int.from_bytes(os.urandom(6), "little")
        name = f"{_FIRST[value % len(_FIRST)]}_{_SECOND[value // 997 % len(_SECOND)]}"
        if table.name_owner(name) is None:
            return name
        name = f"{name}{value % 1000}"
        if table.name_owner(name) is None:
            return name
