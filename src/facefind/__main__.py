"""`python -m facefind` is the `facefind` command."""

from facefind.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
