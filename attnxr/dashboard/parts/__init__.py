"""The parts of the page that are drawn in the browser, each beside its script and its style."""

from attnxr.dashboard.parts.address_bar import AddressBar
from attnxr.dashboard.parts.bar_lists import BarLists
from attnxr.dashboard.parts.card_heading import CardHeading
from attnxr.dashboard.parts.chips import Chips
from attnxr.dashboard.parts.choices import Choices
from attnxr.dashboard.parts.figure_files import FigureFiles
from attnxr.dashboard.parts.findings import Findings
from attnxr.dashboard.parts.head_examples import HeadExamples
from attnxr.dashboard.parts.heading import Heading
from attnxr.dashboard.parts.heads_table import HeadsTable
from attnxr.dashboard.parts.keys import Keys
from attnxr.dashboard.parts.links import Links
from attnxr.dashboard.parts.open_file import OpenFileButton
from attnxr.dashboard.parts.part import Packed, Part
from attnxr.dashboard.parts.rank_table import RankTable
from attnxr.dashboard.parts.signal_table import SignalTable
from attnxr.dashboard.parts.status import Status
from attnxr.dashboard.parts.tabs import Tabs
from attnxr.dashboard.parts.take_away import TakeAwayFiles
from attnxr.dashboard.parts.text_box import TextBox
from attnxr.dashboard.parts.two_lists import TwoLists

__all__ = [
    "AddressBar",
    "BarLists",
    "CardHeading",
    "Chips",
    "Choices",
    "FigureFiles",
    "Findings",
    "HeadExamples",
    "Heading",
    "HeadsTable",
    "Keys",
    "Links",
    "OpenFileButton",
    "Packed",
    "Part",
    "RankTable",
    "SignalTable",
    "Status",
    "Tabs",
    "TakeAwayFiles",
    "TextBox",
    "TwoLists",
]
