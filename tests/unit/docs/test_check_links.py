"""docs/check_links.py finds what it is there to find."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    specification = importlib.util.spec_from_file_location("check_links", ROOT / "docs" / "check_links.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="other.html">well</a> <a href="other.html#here">well</a> <a href="#top">well</a>', None),
        ('<a href="https://example.org/nowhere">not ours</a> <a href="sub/file.txt">a file</a>', None),
        ('<a href="nowhere.html">gone</a>', "page.html: nowhere.html leads nowhere"),
        ('<a href="other.html#gone">gone</a>', "page.html: other.html#gone leads nowhere"),
        ('<a href="#gone">gone</a>', "page.html: #gone leads nowhere"),
        ('<a href="#top"><code class="xref py py-class"><span>hsframework.errors</span></code></a>', None),
        ('<code class="xref py py-class"><span>socket.socket</span></code>', None),
        (
            '<code class="xref py py-class"><span>hsframework.gone.Name</span></code>',
            "page.html: hsframework.gone.Name is documented nowhere",
        ),
    ],
)
def test_problems(body: str, problem: str | None, checker: ModuleType, tmp_path: Path) -> None:
    """Links to pages, anchors and files, and names without a link."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file.txt").touch()
    (tmp_path / "other.html").write_text('<p id="here"></p>')
    (tmp_path / "page.html").write_text(f'<div id="top">{body}</div>')
    assert checker.problems(tmp_path) == ([] if problem is None else [problem])
