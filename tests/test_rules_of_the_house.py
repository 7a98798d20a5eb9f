"""What no code of ours may do, by its syntax tree (S34); `./crew check` has ruff's rules besides.

semgrep would say the same by a file of patterns, but brings a hundred megabytes of binaries and
wants its rules from the network: these are a few lines each, and run with the tests.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .processes import ROOT

CODE = sorted(
    path
    for room in ("tasks", "crewsite", "workers_demo")
    for path in (ROOT / room).rglob("*.py")
    if "migrations" not in path.parts
)
Rule = Callable[[ast.AST], bool]


def called(node: ast.AST) -> str:
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def argument(node: ast.AST, name: str) -> ast.expr | None:
    keywords = node.keywords if isinstance(node, ast.Call) else []
    return next((each.value for each in keywords if each.arg == name), None)


def is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def is_built(node: ast.AST) -> bool:
    """A text that is put together where it is used."""
    return isinstance(node, ast.JoinedStr | ast.BinOp) or called(node).endswith(".format")


# The files where it is meant, each for its reason, are named beside each rule.
RULES: dict[str, tuple[Rule, set[str]]] = {
    "marks a text as safe markup": (
        lambda node: called(node).rpartition(".")[2] in {"mark_safe", "SafeString", "SafeText"},
        set(),
    ),
    "follows redirects": (
        lambda node: is_true(argument(node, "allow_redirects")),
        set(),
    ),
    "calls out by requests": (
        lambda node: (
            re.match(r"requests\.(get|post|put|delete|head|patch|request)$", called(node))
            is not None
        ),
        set(),
    ),
    "does not verify TLS": (
        lambda node: (
            isinstance(found := argument(node, "verify"), ast.Constant) and found.value is False
        ),
        set(),
    ),
    "puts SQL together for raw or extra": (
        lambda node: (
            called(node).rpartition(".")[2] in {"raw", "extra", "RawSQL"}
            and any(map(is_built, getattr(node, "args", [])))
        ),
        set(),
    ),
    "runs text as code": (lambda node: called(node) in {"eval", "exec", "compile"}, set()),
    "reads pickles or tags of YAML": (
        lambda node: called(node) in {"pickle.load", "pickle.loads", "marshal.loads", "yaml.load"},
        set(),
    ),
    "starts a shell": (
        lambda node: is_true(argument(node, "shell")) or called(node) == "os.system",
        set(),
    ),
    "takes a form without its CSRF token": (
        lambda node: isinstance(node, ast.Name) and node.id == "csrf_exempt",
        {"tasks/worker/view.py", "workers_demo/views.py"},  # workers, called by schedulers
    ),
    "writes a whole row": (
        lambda node: (
            called(node).endswith(".save")
            and isinstance(node, ast.Call)
            and called(node).split(".")[-2] in {"task", "group", "worker", "workgroup"}
            and argument(node, "update_fields") is None
            and argument(node, "force_insert") is None
        ),
        set(),
    ),
}


def broken(rule: Rule, tree: ast.AST) -> Iterator[int]:
    return (node.lineno for node in ast.walk(tree) if rule(node) and hasattr(node, "lineno"))


@pytest.mark.parametrize("name", RULES)
def test_no_code_of_ours(name: str) -> None:
    rule, meant = RULES[name]
    found = {
        path.relative_to(ROOT).as_posix(): lines
        for path in CODE
        if (lines := list(broken(rule, tree(path))))
    }

    assert {path: lines for path, lines in found.items() if path not in meant} == {}
    assert meant <= found.keys()  # a list of exceptions that are none would hide the next


TREES: dict[Path, ast.AST] = {}


def tree(path: Path) -> ast.AST:
    if path not in TREES:
        TREES[path] = ast.parse(path.read_text())
    return TREES[path]


SEEN = {
    "marks a text as safe markup": "mark_safe(x)",
    "follows redirects": "session.post(url, allow_redirects=True)",
    "calls out by requests": "requests.get(url)",
    "does not verify TLS": "session.post(url, verify=False)",
    "puts SQL together for raw or extra": "Task.objects.raw(f'SELECT {x}')",
    "runs text as code": "eval(text)",
    "reads pickles or tags of YAML": "pickle.loads(data)",
    "starts a shell": "subprocess.run(command, shell=True)",
    "takes a form without its CSRF token": "view = csrf_exempt(view)",
    "writes a whole row": "self.task.save()",
}


@pytest.mark.parametrize("name", RULES)
def test_each_rule_sees_what_it_is_for(name: str) -> None:
    assert list(broken(RULES[name][0], ast.parse(SEEN[name]))) == [1]


@pytest.mark.parametrize("room", ["tasks", "crewsite", "templates", "static/crew", "workers_demo"])
def test_no_page_of_ours_takes_text_for_markup(room: str) -> None:
    """Templates and scripts: text is text. The libraries of others are theirs."""
    files = [
        path
        for kind in ("*.html", "*.js")
        for path in (ROOT / room).rglob(kind)
        if "unfold" not in path.parts
    ]
    bad = re.compile(
        r"\|\s*safe\b|autoescape off|innerHTML|outerHTML|insertAdjacentHTML|document\.write"
    )

    assert [path.name for path in files if bad.search(path.read_text())] == []
