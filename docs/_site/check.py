"""Check that a built site fetches nothing from elsewhere: `python docs/_site/check.py SITE`; exits with 1 if it does.

Links that a reader may follow are free; what a browser loads by itself has to lie in the site.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

_LOADED = {"src", "srcset", "data", "poster", "action"}
_AWAY = re.compile(r"\s*(?:[a-z][a-z+.-]*:)?//", re.IGNORECASE)
_STYLE = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""", re.IGNORECASE)
#: In a script, an address that a text begins with. Comments and licences may name any.
_SCRIPT = re.compile(r"""["'`](https?://(?:unpkg|cdn|api|fonts|cdnjs)[^"'`\s]*)""", re.IGNORECASE)


class _Page(HTMLParser):
    """Collects the addresses that a page loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.away: list[str] = []
        self.has_equation_left = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at the attributes that make a browser load something."""
        values = {name: value or "" for name, value in attrs}
        loaded = [value for name, value in values.items() if name in _LOADED]
        if tag == "link" and values.get("rel") not in ("canonical", "prev", "next", "alternate"):
            loaded.append(values.get("href", ""))
        self.away += [value for value in loaded if _AWAY.match(value)]
        self.away += _STYLE.findall(values.get("style", ""))
        self.has_equation_left |= "arithmatex" in values.get("class", "")


def problems(site: Path) -> list[str]:
    """Return what is wrong with the files of a site, one line each."""
    found = []
    for path in sorted(site.rglob("*")):
        if path.suffix not in (".html", ".css", ".js"):
            continue
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".html":
            page = _Page()
            page.feed(text)
            away = page.away
            found += [f"{path}: an equation is not MathML"] if page.has_equation_left else []
        else:
            away = (_STYLE if path.suffix == ".css" else _SCRIPT).findall(text)
        found += [f"{path}: loads {address}" for address in away]
    return found


if __name__ == "__main__":
    if not (Path(sys.argv[1]) / "index.html").is_file():
        sys.exit(f"{sys.argv[1]} is no site")
    sys.exit("\n".join(problems(Path(sys.argv[1]))) or 0)
