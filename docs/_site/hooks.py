"""Hooks of MkDocs: pages made of files outside docs/, links between them, and equations as MathML.

What is written elsewhere (README files, the changelog, examples, the help of commands) is shown, not copied. Equations
are converted when the site is built, so that a page needs no script to show them.
"""

import html
import logging
import posixpath
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from aigc_lightning import plugins
from aigc_lightning.commands.completion import candidates

_log = logging.getLogger("mkdocs.hooks")
ROOT = Path(__file__).parents[2]
#: Pages by the file of the repository that they show.
SHOWN = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    **{
        f"plugins/{name}/README.md": f"packages/{name}.md"
        for name in sorted(p.name for p in (ROOT / "plugins").iterdir())
    },
}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")
#: Stands in a block of code for a whole file.
_INCLUDE = re.compile(r"^# (examples/[\w.]+)$", re.MULTILINE)
#: Addresses that the theme's scripts load from, as far as a text begins with them.
_ADDRESS = re.compile(r"""(?<=["'`])https?://(?:unpkg|api)[^"'`\s]*""")
_FENCE = re.compile(r"(^```.*?^```\s*?$)", re.DOTALL | re.MULTILINE)
_EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that show other files of the repository, and their pictures."""
    for source, page in SHOWN.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
        for picture in sorted((ROOT / source).parent.glob("images/*.png")):
            files.append(
                File.generated(
                    config, f"packages/{ROOT.joinpath(source).parent.name}/{picture.name}", abs_src_path=str(picture)
                )
            )
    files.append(File.generated(config, "examples.md", content=_examples()))
    files.append(File.generated(config, "reference/commands.md", content=_commands()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to files of the repository at their pages; those without a page become plain text."""
    here = page.file.src_uri
    origin = next((source for source, shown in SHOWN.items() if shown == here), f"docs/{here}")

    def pointed(found: re.Match[str]) -> str:
        image, text, target, anchor = found.groups()
        wanted = _page_of(posixpath.normpath(posixpath.join(posixpath.dirname(origin), target)))
        if files.get_file_from_path(wanted) is None:
            return text if (ROOT / posixpath.dirname(origin) / target).exists() else found[0]  # strict builds refuse it
        return f"{image}[{text}]({posixpath.relpath(wanted, posixpath.dirname(here) or '.')}{anchor or ''})"

    parts = _FENCE.split(markdown)
    linked = "".join(part if number % 2 else _LINK.sub(pointed, part) for number, part in enumerate(parts))
    return _INCLUDE.sub(lambda found: (ROOT / found[1]).read_text(encoding="utf-8").rstrip(), linked)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn equations into MathML, which browsers draw themselves."""
    return _EQUATION.sub(_mathml, content)


def on_post_build(config: MkDocsConfig) -> None:
    """Take the addresses out of the theme's scripts, which would load diagrams or polyfills from there."""
    for path in Path(config.site_dir).glob("assets/javascripts/*.js"):
        text = path.read_text(encoding="utf-8")
        path.write_text(_ADDRESS.sub("about:blank", text), encoding="utf-8")


def _mathml(found: re.Match[str]) -> str:
    equation = html.unescape(found[3])
    made: Any = convert(equation, display="block" if found[2] == "[" else "inline")
    if "\\" in made:  # a command that was not understood is shown as it is
        _log.warning("An equation has a command without a meaning in MathML: %s", equation)
    return str(made).replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")


def _page_of(source: str) -> str:
    """Return the page, or the picture, that shows a file of the repository."""
    if source.partition("/")[0] == "examples":
        return "examples.md"
    picture = re.fullmatch(r"plugins/([\w-]+)/images/(.*)", source)
    if picture:
        return f"packages/{picture[1]}/{picture[2]}"
    return SHOWN.get(source, source.removeprefix("docs/"))


def _examples() -> str:
    """Return the page of the scripts in examples/."""
    parts = ["# Examples", "Scripts of the folder `examples`, which the tests run; notebooks lie beside them."]
    for path in sorted((ROOT / "examples").glob("*.py")):
        parts += [f"## {path.name}", f"```python\n{path.read_text(encoding='utf-8').rstrip()}\n```"]
    return "\n\n".join(parts)


def _commands() -> str:
    """Return the page with the help of every command."""
    parts = ["# Commands", "What `aigc COMMAND --help` prints."]
    for plugin in plugins.plugins("command"):
        if plugin.is_builtin:
            for words in _sub_commands(plugin.name):
                parts += [f"{'#' * (len(words) + 1)} aigc {' '.join(words)}", f"```text\n{_help(words)}\n```"]
    return "\n\n".join(parts)


def _sub_commands(name: str) -> Iterator[tuple[str, ...]]:
    yield (name,)
    yield from ((name, word) for word in candidates([name, ""]) if name != "completion")


def _help(words: tuple[str, ...]) -> str:
    printed = StringIO()
    try:
        with redirect_stdout(printed):
            plugins.find("command", words[0]).load()([*words[1:], "--help"])
    except SystemExit:  # of argparse
        pass
    return printed.getvalue().replace(str(Path.home()), "~").rstrip()
