"""Whether a server still answers, for whatever watches over it."""

from __future__ import annotations

from tornado.web import RequestHandler

from attnxr.dashboard.compute.jobs import ANSWER


class Health(RequestHandler):
    """Answers ``{"status": "ok", "waiting": …}``: that the event loop runs, and how many answers wait for a thread."""

    def get(self) -> None:
        """Answer; Tornado calls it."""
        self.set_header("Cache-Control", "no-store")
        self.write({"status": "ok", "waiting": ANSWER.waiting})
