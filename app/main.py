"""What ``panel serve app`` runs once for every visitor."""

import sys
from pathlib import Path

import panel as pn
from page import Session
from served import offered

pn.extension(raw_css=[Path(__file__).with_name("page.css").read_text(encoding="utf-8")])
Session(offered(sys.argv[1:])).page.servable()
