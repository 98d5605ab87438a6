"""Pages of the site that are no file in docs/: a hook of mkdocs, named in mkdocs.yml.

README and its like are taken from the root with their links changed; the reference of modules,
commands, netlists and examples is made from the sources, so that no list is kept by hand.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("netlists", "circuits", "behavioral", "system")
# file or folder of the repository: page of the site
FROM_ROOT = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "license.txt",
    "examples": "examples.md",
}
SCHEMATICS = "netlists/schematics"
LINK = re.compile(r"(\]\()([^)#\s]+)(?=[)#])")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the modules to the navigation."""
    assert config.nav is not None
    reference = config.nav[-1]["Reference"]
    reference += [{package: _entries(ROOT / package)} for package in PACKAGES]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages themselves."""
    pages = {page: (ROOT / source) for source, page in FROM_ROOT.items() if "." in source}
    texts = {page: path.read_text(encoding="utf-8") for page, path in pages.items()}
    texts["license.txt"] = (ROOT / "LICENSE").read_text(encoding="utf-8")
    texts["examples.md"] = "# Examples\n" + _listings(sorted((ROOT / "examples").glob("*.py")))
    texts["netlists.md"] = "# Netlists and cards\n" + _listings(
        [path for kind in ("*.cir", "cards/*", "devices/*", "technologies/*")
         for path in sorted((ROOT / "netlists").glob(kind))]
    )  # fmt: skip
    texts["commands.md"] = "# Commands\n" + "".join(_commands())
    for package in PACKAGES:
        for path in _modules(ROOT / package):
            name = _import_name(path)
            texts[_page(path)] = f"---\ntitle: {name}\n---\n\n::: {name}\n"
    for path in (ROOT / SCHEMATICS).glob("*.svg"):
        texts[f"schematics/{path.name}"] = path.read_text(encoding="utf-8")
    for page, text in texts.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Point links between files of the repository to their pages."""
    here = page.file.src_uri
    source = next((s for s, p in FROM_ROOT.items() if p == here), f"docs/{here}")

    def relink(match: re.Match[str]) -> str:
        start, target = match.groups()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        place = FROM_ROOT.get(path) or re.sub(r"^(docs|netlists(?=/schematics))/", "", path)
        if "://" in target or place == path:
            return match.group()
        return start + posixpath.relpath(place, posixpath.dirname(here) or ".")

    return LINK.sub(relink, markdown)


def on_page_content(html: str, page: Page, **_: Any) -> str:
    """Point links of notebooks, which mkdocs does not resolve, to pages."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    return re.sub(r'(href="(?!\w+:)[^"#]+)\.(md|ipynb)(?=["#])', r"\1.html", html)


def _modules(folder: Path) -> Iterator[Path]:
    """Yield the public modules below a package; a package is its __init__.py."""
    for path in sorted(folder.rglob("*.py")):
        if path.name == "__init__.py" or not path.stem.startswith("_"):
            yield path


def _import_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _page(path: Path) -> str:
    relative = path.relative_to(ROOT).with_suffix("")
    return f"reference/{relative.parent if relative.name == '__init__' else relative}".replace(
        "\\", "/"
    ) + ("/index.md" if relative.name == "__init__" else ".md")


def _entries(folder: Path) -> list[Any]:
    """Return the navigation of a package: its own page, modules, packages below it."""
    entries: list[Any] = [_page(folder / "__init__.py")]
    for path in sorted(folder.iterdir()):
        if (path / "__init__.py").exists():
            entries.append({path.name: _entries(path)})
        elif path.suffix == ".py" and not path.stem.startswith("_"):
            entries.append({path.stem: _page(path)})
    return entries


def _listings(paths: list[Path]) -> str:
    """Return files as code below their names."""
    languages = {".py": "python", ".toml": "toml"}
    return "".join(
        f"\n## {path.relative_to(ROOT).as_posix()}\n\n```{languages.get(path.suffix, 'text')}\n"
        f"{path.read_text(encoding='utf-8')}```\n"
        for path in paths
    )


def _commands() -> Iterator[str]:
    """Yield what `nldpe COMMAND --help` prints."""
    from system.commands.main import COMMANDS, build_parser

    for name, summary in COMMANDS.items():
        subparsers = next(a for a in build_parser(name)._actions if a.dest == "command")
        assert isinstance(subparsers.choices, dict)
        text = subparsers.choices[name].format_help()
        yield f"\n## nldpe {name}\n\n{summary[0].upper()}{summary[1:]}.\n\n```text\n{text}```\n"
