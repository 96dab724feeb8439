"""The command line: parsing and printing only. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of ``fewclip``. Exit codes: 0; 1 error; 2 usage; 3 some rows failed."""
    from fewclip.cli.app import app
    from fewclip.errors import FewclipError

    try:
        app()
    except FewclipError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted; features encoded so far are kept", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of stdout has gone: nothing left to say
        sys.exit(141)
