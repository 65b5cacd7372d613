"""What ``panel serve app`` runs once for every visitor."""

import sys

import panel as pn
from page import Session
from served import offered

pn.extension()
Session(offered(sys.argv[1:])).page.servable()
