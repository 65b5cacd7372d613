"""What can be measured of every head over a corpus, by name: one measure a file."""

from collections.abc import Callable

from attnxr.corpus.measure import Measure
from attnxr.corpus.measures.effects import Effects
from attnxr.corpus.measures.examples import Examples
from attnxr.corpus.measures.looking import Looking
from attnxr.corpus.measures.own import Own
from attnxr.corpus.measures.roles import Roles
from attnxr.corpus.measures.significance import Significance
from attnxr.corpus.measures.words import Words

MEASURES: dict[str, Callable[[], Measure]] = {
    each.name: each for each in (Roles, Looking, Own, Words, Examples, Significance, Effects)
}
DEFAULT: tuple[str, ...] = tuple(MEASURES)
