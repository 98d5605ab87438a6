"""The documents lead where they say."""

import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]


def test_relative_links_of_the_documents_exist():
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
        if "://" not in target and not (document.parent / target).exists()
    ]
    assert not broken


@pytest.mark.parametrize(("drawing", "circuit"), [("acam", "acam"), ("column", "column")])
def test_schematics_show_every_device_of_their_netlists(drawing, circuit):
    svg = ElementTree.parse(ROOT / f"netlists/schematics/{drawing}.svg")
    texts = ["".join(text.itertext()) for text in svg.iter("{http://www.w3.org/2000/svg}text")]
    drawn = Counter(word for text in texts for word in text.split())
    lines = (ROOT / f"netlists/{circuit}.cir").read_text(encoding="utf-8").splitlines()
    devices = Counter(line.split()[0] for line in lines if re.match(r"[xmrc]\d", line))
    assert devices
    assert not devices - drawn
