"""Every Python block of the README and of the documentation runs as it stands."""

import re
import textwrap
from pathlib import Path

import matplotlib
import pytest
from hub_server import TOKEN, local_hub
from test_datasets_eegdash import write

from benchmarks import readme

ROOT = Path(__file__).resolve().parents[1]
FILES = [*readme.PAGES, *sorted((ROOT / "docs").glob("*.rst"))]


def python_blocks(path):
    """(line, code) of the blocks marked as Python, in order."""
    text = path.read_text()
    if path.suffix == ".md":
        found = re.finditer(r"^```python\n(.*?)^```", text, re.S | re.M)
    else:
        found = re.finditer(
            r"^\.\. code-block:: python\n((?:[ \t]+:.*\n)*(?:\n|[ \t]+.*\n)+)",
            text if text.endswith("\n") else text + "\n",
            re.M,
        )
    return [
        (text[: match.start(1)].count("\n") + 1, textwrap.dedent(match.group(1)))
        for match in found
    ]


WITH_CODE = [path for path in FILES if python_blocks(path)]


def test_readme_and_quickstart_have_code():
    names = {path.name for path in WITH_CODE}
    assert {"README.md", "quickstart.rst"} <= names


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The Hub of the documents is on this machine."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with local_hub(monkeypatch, tmp_path / "cache") as running:
        yield running


@pytest.fixture
def hbn(tmp_path):
    """A recording of the release that the documents speak of."""
    write(tmp_path / "hbn" / "ds005505", "NDARAA111", "RestingState", seed=0)


@pytest.mark.parametrize(
    "path", WITH_CODE, ids=lambda path: str(path.relative_to(ROOT))
)
def test_blocks_run_one_after_the_other(path, tmp_path, monkeypatch, hub, hbn):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    namespace = {"__name__": "block"}
    for line, code in python_blocks(path):
        padded = "\n" * (line - 1) + code  # errors then point to the document's line
        exec(compile(padded, str(path), "exec"), namespace)


def test_tables_of_the_pages_are_the_stored_results():
    shown = []
    for page in readme.PAGES:
        text = page.read_text("utf-8")
        assert readme.filled(text) == text, "python -m benchmarks.readme"
        shown += readme.BLOCK.findall(text)
    assert sorted(shown) == sorted(readme.BLOCKS)


def test_what_stands_around_the_tables_stays(monkeypatch):
    monkeypatch.setattr(readme, "BLOCKS", {"a": lambda: "1", "b": lambda: "2"})
    text = "x\n<!-- a -->\n<!-- end -->\ny\n<!-- b -->\n\n0\n\n<!-- end -->\nz"
    made = "x\n<!-- a -->\n\n1\n\n<!-- end -->\ny\n<!-- b -->\n\n2\n\n<!-- end -->\nz"
    assert readme.filled(text) == readme.filled(made) == made


def test_a_mark_that_names_no_table_is_an_error():
    with pytest.raises(KeyError, match="nobody"):
        readme.filled("<!-- nobody -->\n\n12.3\n\n<!-- end -->")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_the_repository_exist(path):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"
