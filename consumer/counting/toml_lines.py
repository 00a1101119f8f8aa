"""In which line of a TOML file a key stands: tomllib does not tell, and a fault without a line is half a fault."""

import re
from typing import Final

_TOKEN: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|\n|[\[\]{}]"
    r"|[^\"'\#\n\[\]{}]+",
    re.DOTALL,
)
_KEY: Final = re.compile(r"""[ \t]*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+))[ \t]*[=.]""")


class Lines:
    """Lines of the keys of a valid TOML text with tables `[[table]]`, counted from 1."""

    def __init__(self, text: str, table: str) -> None:
        self._lines: dict[tuple[int, str], int] = {}
        header = re.compile(rf"""[ \t]*\[\[[ \t]*["']?{re.escape(table)}["']?[ \t]*\]\]""")
        self._table, index = table, -1
        for line, start in _statements(text):
            if header.match(text, start):
                index += 1
                self._lines[index, ""] = line
            elif key := _KEY.match(text, start):
                self._lines.setdefault((index, key[1] or key[2] or key[3]), line)

    def of(self, key: str, index: int = -1) -> int:
        """Line of a key in the index-th table (-1: before the first one), or of the nearest thing known."""
        for found in ((index, key), (index, ""), (-1, key), (-1, self._table)):
            if found in self._lines:
                return self._lines[found]
        return 1


def _statements(text: str) -> list[tuple[int, int]]:
    """(line, position) of each statement: of each line that does not go on a value begun above."""
    found, line, position, depth, fresh = [], 1, 0, 0, True
    while token := _TOKEN.match(text, position):
        if fresh and depth == 0:
            found.append((line, position))
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        line += token[0].count("\n")
        fresh, position = token[0] == "\n", token.end()
    return found
