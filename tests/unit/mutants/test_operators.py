"""Operators of scripts/mutants: the faults that each makes, and where none is made."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from scripts.mutants import expressions, statements
from scripts.mutants.mutants import Mutant, chosen, mutants_of

CASES = {
    "invert": ("if not ready: go()", "if (ready): go()"),
    "compare": ("x = count < most", "x = (count <= most)"),
    "junction": ("x = a and b", "x = (a or b)"),
    "off-by-one": ("x = 7", "x = (8)"),
    "arithmetic": ("x = a - b", "x = (a + b)"),
    "arguments": ("x = send(a, b)", "x = send(b, a)"),
    "roles": ("x = (client, server.y)", "x = (server, server.y)"),
    "status": ("x = errno.EIO", "x = errno.EXDEV"),
    "order": ("x = queue.popleft()", "x = queue.pop()"),
    "check": ("if bad:\n    raise ValueError", "if False:\n    raise ValueError"),
    "way-out": ("for x in y:\n    break", "for x in y:\n    continue"),
    "swallow": ("try:\n    a()\nexcept OSError:\n    b()\n    raise", "try:\n    a()\nexcept OSError:\n    pass"),
    "skip-await": ("async def f():\n    await x()", "async def f():\n    pass"),
    "drop-ending": ("sock.close()", "pass"),
    "drop-call": ("sock.bind(address)", "pass"),
    "drop-change": ("count += 1", "pass"),
    "drop-entry": ("TABLE = {A: 1, B: 2}", "TABLE = {**{}, B: 2}"),
    "exchange": ("def f():\n    x.open()\n    x.use()", "def f():\n    x.use()\n    x.open()"),
}


def mutants(folder: Path, text: str) -> list[Mutant]:
    """Return all mutants of a file with this text."""
    path = folder / "file.py"
    path.write_text(text)
    return mutants_of(path, folder)


@pytest.mark.parametrize("operator", [*expressions.OPERATORS, *statements.OPERATORS])
def test_each_operator_makes_its_fault(operator: str, tmp_path: Path) -> None:
    """Every operator changes its place and nothing around it, and what it makes can be compiled."""
    before, after = CASES[operator]
    source = f"# comment\n{before}  # é\nlast = 'é'\n"
    made = [it.applied(source.encode()).decode() for it in mutants(tmp_path, source) if it.operator == operator]
    assert f"# comment\n{after}  # é\nlast = 'é'\n" in made
    for text in made:
        ast.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        '"""Docstring 1."""\n',
        "_log.info('x', len(a), count=3)\n",
        "class A:\n    x: Annotated[int, 5]\n",
        "@wraps(a, b)\ndef f(x: Literal[1, 2]) -> Literal[3]: ...\n",
        'x = f"{a + 1}"\n',
        "if TYPE_CHECKING:\n    import x\n",
        "__all__ = ['a', 'b']\n",
        "Row = tuple[State, dict[str, int]]\n",
    ],
)
def test_no_fault_where_none_would_be_one(text: str, tmp_path: Path) -> None:
    """Docstrings, annotations, decorators, texts and calls of the log have no mutants."""
    assert mutants(tmp_path, text) == []


def test_a_name_holds_while_the_code_around_changes(tmp_path: Path) -> None:
    """Lines that are added in front change a mutant's line, and not its name; equal faults have different names."""
    function = "def f():\n    close(a)\n    close(a)\n"
    before, after = mutants(tmp_path, function), mutants(tmp_path, f"import x\n\n\n{function}")
    assert [it.name for it in before] == [it.name for it in after]
    assert len({it.name for it in before}) == len(before)
    assert [it.line + 3 for it in before] == [it.line for it in after]


def test_the_choice_goes_by_seed_and_over_all_operators(tmp_path: Path) -> None:
    """The same seed chooses the same mutants, also if there are others; no operator is left out for another's many."""
    text = "def f():\n    x = [1, 2, 3, 4, 5, 6, 7, 8, 9]\n    close(x)\n    return a < b\n"
    found = mutants(tmp_path, text)
    some = chosen(found, 3, "seed")
    assert some == chosen(found[::-1], 3, "seed")
    assert {it.operator for it in some} == {"off-by-one", "drop-ending", "compare"}
    assert len({tuple(chosen(found, 3, str(seed))) for seed in range(20)}) > 1


IN_C = {
    "invert": ('if (a && b(c, "d"))', 'if (!(a && b(c, "d")))'),
    "check": ("if (!a)", "if (0 && (!a))"),
    "compare": ("return n >= most;", "return n > most;"),
    "junction": ("return a || b;", "return a && b;"),
    "status": ("return -EAGAIN;", "return -EPROTO;"),
    "order": ("list_add_tail(&a->b, &c);", "list_add(&a->b, &c);"),
    "roles": ("x = a[HSF_A_SOCKFD];", "x = a[HSF_A_PROTOCOL];"),
    "drop-call": ("\tb(a,\n\t  c);", "\t;"),
    "drop-ending": ("\tfput(a);", "\t;"),
    "drop-change": ("\ta->b = c;", "\t;"),
}


@pytest.mark.parametrize("operator", IN_C)
def test_each_operator_in_c(operator: str, tmp_path: Path) -> None:
    """The same for the kernel's C; a function that returns a structure is one, too."""
    before, after = IN_C[operator]
    source = "/* if (x) */\nstatic struct a *f(struct b *a)\n{{\n{}\n}}\n"
    path = tmp_path / "file.c"
    path.write_text(source.format(before))
    made = [it for it in mutants_of(path, tmp_path) if it.operator == operator]
    assert source.format(after).encode() in [it.applied(path.read_bytes()) for it in made]
    assert {(it.scope, it.function, it.line) for it in made} == {("f", 2, 4)}


@pytest.mark.parametrize(
    "text",
    [
        "static const struct ops o = {\n\t.a = f,\n};\n",
        "#define F(x) ({ if (x) g(); })\n",
        'int f(void)\n{\n\t/* if (x) */\n\tguard(spinlock)(&a->lock);\n\tpr_err("a == b");\n\treturn g(1);\n}\n',
    ],
    ids=["a table", "a macro", "a text, a comment, a lock and the log"],
)
def test_no_fault_in_c_where_none_would_be_one(text: str, tmp_path: Path) -> None:
    """Outside of functions, and in what no test can tell, nothing changes."""
    path = tmp_path / "file.c"
    path.write_text(text)
    assert mutants_of(path, tmp_path) == []
