"""What did this attention head just write, and which words of the whole vocabulary is that nearest to?

The public names load when they are first used, so that ``import attnxr`` is quick; ``__init__.pyi`` lists them.
"""

from importlib.metadata import version

import lazy_loader

__version__ = version("attnxr")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
