"""The errors a user can meet. Each message says what was given, what was expected and what to do next."""


class AttnxrError(Exception):
    """Base of every error that attnxr raises on purpose."""


class InputError(AttnxrError, ValueError):
    """A text, a Dataset or an option is not of the form that was asked for."""


class TextTooLongError(InputError):
    """A text has more tokens than the model can take."""


class ModelNotFoundError(AttnxrError, OSError):
    """No model (or no tokenizer) could be had under the given name."""


class UnsupportedModelError(AttnxrError):
    """The model cannot be looked into, so that no number about it would be right."""
