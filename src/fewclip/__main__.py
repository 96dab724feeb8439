"""``python -m fewclip`` is ``fewclip``."""

from fewclip.cli import main

if __name__ == "__main__":
    main()
