"""The documents lead where they say."""

import json
import re
import shlex
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from system.commands.main import COMMANDS, build_parser
from system.networks import _default_mapping
from system.quantization import Mapping

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("docs/**/*.ipynb"),
]  # fmt: skip


def test_relative_links_of_the_documents_exist():
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
        if "://" not in target and not (document.parent / target).exists()
    ]
    assert not broken


def test_every_document_stands_in_the_navigation_of_the_site():
    """`make docs` refuses the others; here it shows without mkdocs."""
    listed = re.findall(r": (\S+\.(?:md|ipynb))$", (ROOT / "mkdocs.yml").read_text(), re.M)
    pages = {p.relative_to(ROOT / "docs").as_posix() for p in DOCUMENTS if "docs" in p.parts}
    assert not pages - set(listed)


@pytest.mark.parametrize(
    ("drawing", "circuits"),
    [
        ("acam", ("acam_6t2m", "match_line")),
        ("acam_10t2m", ("acam_10t2m",)),
        ("acam_unit", ("acam_unit",)),
        ("column", ("column",)),
        ("driver", ("row_driver",)),
        ("sense_amplifier", ("sense_amplifier",)),
    ],
)
def test_schematics_show_every_device_of_their_netlists(drawing, circuits):
    svg = ElementTree.parse(ROOT / f"netlists/schematics/{drawing}.svg")
    texts = ["".join(text.itertext()) for text in svg.iter("{http://www.w3.org/2000/svg}text")]
    drawn = Counter(word for text in texts for word in text.split())
    texts = [(ROOT / f"netlists/{name}.cir").read_text(encoding="utf-8") for name in circuits]
    lines = "\n".join(texts).splitlines()
    devices = Counter(line.split()[0] for line in lines if re.match(r"[xmrc]\d", line))
    assert devices
    assert not devices - drawn


def test_the_table_of_the_mapping_gives_the_defaults():
    text = (ROOT / "docs/run-my-model.md").read_text(encoding="utf-8")
    plain = Mapping().to_dict()
    language = plain | _default_mapping(SimpleNamespace(config={"model_type": "llama"}))
    told = {
        name: row[1:3]
        for row in re.findall(r"^\| (`.*?) \| (\S+) \| (\S+) \| .* \|$", text, re.M)
        for name in re.findall(r"`(\w+)`", row[0])
    }
    for column, wanted in enumerate((plain, language)):
        cells = {name: row[column] for name, row in told.items()}
        assert {k: v for k, v in wanted.items() if k != "layers"} == {
            k: v.strip("`") if v.startswith("`") else json.loads(v) for k, v in cells.items()
        }


COMMANDED = [
    p for p in [*DOCUMENTS, *ROOT.glob("docs/circuits/*.py"), *ROOT.glob("examples/*.py")]
    if p.name != "CHANGELOG.md"
]  # fmt: skip
# what the documents write for a value of the reader's own
PLACEHOLDERS = {"MODE": "noisy", "N": "3"}


MENTIONED = (["fit"], ["--corners"], ["--map"])


def command_lines(path):
    """Yield the words of every `nldpe ...` of a document: own lines, and in backticks."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    text = text.replace("\\\n", " ")
    own = re.findall(r"^\s*(?:\w+=\S+ )*(nldpe .*)", text, re.M)
    for line in [*own, *re.findall(r"`(nldpe [^`]*)`", text)]:
        if line.endswith(" ..."):
            continue
        line = re.split(r"\s[|>]|&&", re.sub(r"\[(-[^]]*)\]", r"\1", line))[0]
        yield [PLACEHOLDERS.get(word, word) for word in shlex.split(line, comments=True)[1:]]


def test_every_command_of_the_documents_is_accepted_by_its_parser(capsys):
    refused, count = [], 0
    for path in COMMANDED:
        for words in command_lines(path):
            if words[0] in COMMANDS and (len(words) == 1 or words[1:] in MENTIONED):
                continue  # the name of a command or of its option, not a call
            count += 1
            try:
                build_parser(next((w for w in words if w in COMMANDS), None)).parse_args(words)
            except SystemExit as error:
                if error.code:
                    reason = capsys.readouterr().err.splitlines()[-1]
                    refused.append(f"{path.relative_to(ROOT)}: {shlex.join(words)}: {reason}")
    assert count > 100
    assert not refused, "\n".join(refused)


def stands(path, name):
    """Tell whether a file or folder exists, and holds a name if one is given."""
    place = ROOT / path
    return place.exists() and (not name or name in place.read_text(encoding="utf-8"))


def test_files_and_names_of_the_code_that_the_documents_name_exist():
    folders = "netlists|circuits|behavioral|system|tests|docs|examples|benchmarks"
    named = re.compile(rf"`((?:{folders})/[\w./-]+?)(?::(\w+)[\w.]*)?`")
    missing = [
        f"{document.relative_to(ROOT)}: {path} {name}"
        for document in COMMANDED
        for path, name in named.findall(document.read_text(encoding="utf-8"))
        if "NAME" not in path and not stands(path, name)
    ]
    assert not missing
