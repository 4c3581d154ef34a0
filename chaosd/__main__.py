"""`python -m chaosd`, and `chaosd`: a Ctrl-C while it is being loaded ends it quietly, too."""

import sys

INTERRUPTED = 130  # 128 and SIGINT's number, as a shell has it


def start() -> int:
    """Load the command and run it. Returns the exit code."""
    try:
        from chaosd.cli import main

        return main()
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(start())
