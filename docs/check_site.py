"""Whether the pages of a built site lead somewhere, and fetch nothing from elsewhere.

    python docs/check_site.py build/site

Each link, picture, script and style of each page must be a file of the site, and what follows a
`#` an id in it. Links that a reader may follow to other sites are not tried.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The ids of a page, and what it links to and fetches: (tag, address)."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.addresses: list[tuple[str, str]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take in an element."""
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.addresses.append((tag, value))


def problems(site: Path) -> list[str]:
    """A line for each address that leads nowhere, or to another site where it must not."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    found = [] if pages else [f"{site} has no pages: build it by `make docs`"]
    for path, page in pages.items():
        for tag, address in page.addresses:
            parts = urlsplit(address)
            if parts.scheme in ("data", "mailto"):
                continue
            if parts.scheme or parts.netloc:
                if tag != "a":
                    found.append(f"{path}: fetches {address}")
                continue
            base = site if parts.path.startswith("/") else path.parent
            target = (base / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                found.append(f"{path}: {address} is no file of the site")
            elif target in pages and parts.fragment not in {"", *pages[target].ids}:
                found.append(f"{path}: {address} names no heading there")
    return found


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]))
    print("\n".join(wrong) or "every link of the site leads somewhere")
    sys.exit(bool(wrong))
