"""What the documents point to is there: files, headings' files, pictures, folders of the source."""

import re
from typing import Final

from tests.documentation.documents import REPOSITORY, documents

_PATH: Final = re.compile(r"(?:\.ci|benchmarks|build|docs|src|tests|tools)/[\w./-]*")
_MADE: Final = ("build/",)
_LONG_TOKEN: Final = re.compile(r"[A-Za-z0-9]{40,}")


def test_links_lead_to_files_that_exist() -> None:
    broken = [
        f"{document.name}: {link}"
        for document in documents()
        for link in document.links
        if "://" not in link and not (document.path.parent / link.partition("#")[0]).exists()
    ]
    assert not broken


def test_files_and_folders_that_are_named_exist() -> None:
    missing = [
        f"{document.name}: {span}"
        for document in documents()
        for span in document.code_spans
        if _PATH.fullmatch(span) and not span.startswith(_MADE) and not (REPOSITORY / span).exists()
    ]
    assert not missing


def test_pictures_show_no_key_and_fetch_nothing() -> None:
    for picture in REPOSITORY.glob("docs/images/*.svg"):
        svg = picture.read_text()
        assert not _LONG_TOKEN.search(svg), picture.name
        assert "url(http" not in svg.replace('"', ""), picture.name
