"""What has grown too long to be read in one go: files and functions below nmk/, a line each."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MOST_LINES = 400  # of a file
MOST_OF_FUNCTION = 60  # with its docstring, without its decorators


def too_long(path: Path) -> Iterator[str]:
    """What is too long in a file, and where."""
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    if lines > MOST_LINES:
        yield f"{path}: {lines} lines, at most {MOST_LINES}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            if length > MOST_OF_FUNCTION:
                where = f"{path}:{node.lineno}: {node.name}"
                yield f"{where} has {length} lines, at most {MOST_OF_FUNCTION}"


def main() -> None:
    """Exit code 1 where anything is."""
    found = [line for path in sorted(Path("nmk").rglob("*.py")) for line in too_long(path)]
    sys.stdout.writelines(f"{line}\n" for line in found)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
