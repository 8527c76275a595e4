"""Check of the links within the built documentation, and of references to names of ours.

Sphinx itself warns of a link to a missing page, but not of one to a missing anchor in an included or generated page,
and it shows a reference to an undocumented name as plain text.  Run by ``make docs``.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

IGNORED = ("genindex.html", "search.html", "py-modindex.html")
"""Pages that Sphinx generates."""


class Page(HTMLParser):
    """The anchors and links of a page, and its references without a target."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.unresolved: set[str] = set()
        self._in_link = 0
        self._reference = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        for name in ("id", "name"):
            if values.get(name):
                self.anchors.add(str(values[name]))
        if tag == "a":
            self._in_link += 1
            self.links.add(values.get("href") or "")
        elif tag == "code":
            classes = (values.get("class") or "").split()
            self._reference = not self._in_link and "xref" in classes and "py" in classes

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._in_link -= 1
        elif tag == "code":
            self._reference = False

    def handle_data(self, data: str) -> None:
        if self._reference and data.startswith("hsframework"):
            self.unresolved.add(data)


def problems(folder: Path) -> list[str]:
    """Return the problems of the pages in ``folder``, a line for each."""
    pages = {path: read(path) for path in sorted(folder.rglob("*.html")) if path.name not in IGNORED}
    found = []
    for path, page in pages.items():
        where = path.relative_to(folder)
        found += [f"{where}: {name} is documented nowhere" for name in sorted(page.unresolved)]
        for link in sorted(page.links):
            if "://" not in link and not link.startswith("mailto:") and not leads_somewhere(link, path, pages):
                found.append(f"{where}: {link} leads nowhere")
    return found


def read(path: Path) -> Page:
    """Parse a page."""
    page = Page()
    page.feed(path.read_text("utf-8"))
    page.close()
    return page


def leads_somewhere(link: str, source: Path, pages: dict[Path, Page]) -> bool:
    """Return True if the file of ``link`` exists and has its anchor; ``source``: the page with the link."""
    address, anchor = urldefrag(link)
    target = (source.parent / unquote(address)).resolve() if address else source
    page = pages.get(target)
    if page is None:
        return target.is_file()
    return not anchor or unquote(anchor) in page.anchors


def main() -> int:
    """Check the folder that the command line names, and return the exit status: 1 if there is a problem."""
    folder = Path(sys.argv[1]).resolve()
    found = problems(folder)
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
