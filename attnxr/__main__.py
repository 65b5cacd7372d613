"""``python -m attnxr``: the same as ``attnxr``, where the folder of scripts is not on the path."""

from attnxr.cli import main

if __name__ == "__main__":
    main(prog_name="python -m attnxr")
