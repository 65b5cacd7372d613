"""What importing takes, each time in an interpreter of its own."""


class Imports:
    number = 1

    def timeraw_attnxr(self) -> str:
        """The names only."""
        return "import attnxr"

    def timeraw_model(self) -> str:
        """All that a model needs, torch and transformers among it."""
        return "import attnxr.model"
