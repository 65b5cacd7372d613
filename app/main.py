"""What ``panel serve app`` runs once for every visitor: the page that ``attnxr serve`` shows too."""

import sys

from attnxr.importing import quickly

with quickly("attnxr.dashboard"):
    from attnxr.dashboard.served.page import open_page

open_page(sys.argv[1:]).servable()
