"""How much is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """How often, and how much of it.

    Attributes
    ----------
    clicks : int
        In the browser.
    wire_clicks : int
        Of each visitor on the wire.
    visitors : int
        Who click at once.
    visits : int
        One after another.
    long : int
        Words of the long text.
    texts : int
        New texts, and first visits.
    tokens : int
        Of the text that the page starts with.
    starts : int
        Of a server.
    """

    clicks: int = 40
    wire_clicks: int = 25
    visitors: int = 8
    visits: int = 100
    long: int = 498
    texts: int = 10
    tokens: int = 14
    starts: int = 5


QUICK = Size(clicks=4, wire_clicks=2, visitors=2, visits=10, long=100, texts=2, starts=1)
