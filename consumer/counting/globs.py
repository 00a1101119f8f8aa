"""Lists of globs as one quick test: most globs are a word between stars, and need no regular expression."""

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(r"\*+|\?|\\(.)|\[(!?)((?:[^\]]|\])[^\]]*)\]|([^\\\[])", re.DOTALL)


class _Run(NamedTuple):
    """What stands between two stars, as a regular expression, and as a text if it is nothing more."""

    pattern: str = ""
    text: str | None = ""


def matcher(globs: Sequence[str]) -> Callable[[str], bool]:
    """A test whether a whole text meets one of the globs, both case-folded (so `ß` is `ss`).

    Raises ValueError for an open `[`, an empty range, or a backslash at the end.
    """
    whole, prefixes, suffixes, parts, patterns = set(), [], [], [], []
    for glob in globs:
        runs = _runs(glob)
        match [run.text for run in runs]:
            case [str() as text]:
                whole.add(text)
            case [str() as text, ""]:
                prefixes.append(text)
            case ["", str() as text]:
                suffixes.append(text)
            case ["", str() as text, ""]:
                parts.append(text)
            case _:
                patterns.append(_pattern([run.pattern for run in runs]))
    starts, ends = tuple(prefixes), tuple(suffixes)
    fullmatch = re.compile("|".join(patterns), re.DOTALL).fullmatch if patterns else None

    def meets(text: str) -> bool:
        text = text.casefold()
        if text in whole or text.startswith(starts) or text.endswith(ends):
            return True
        for part in parts:
            if part in text:
                return True
        return fullmatch is not None and fullmatch(text) is not None

    return meets


def _pattern(runs: list[str]) -> str:
    """Each run between two stars is taken where it first fits and never again elsewhere (atomic groups).

    So the time grows with the text and the glob, never with a power of them.
    """
    if len(runs) == 1:
        return runs[0]
    first, *middle, last = runs
    return first + "".join(f"(?>.*?{run})" for run in middle) + f".*{last}"


def _runs(glob: str) -> list[_Run]:
    folded = glob.casefold()
    runs, position = [_Run()], 0
    while position < len(folded):
        token = _TOKEN.match(folded, position)
        if token is None:
            raise ValueError(f"{glob!r}: {'[ is not closed' if folded[position] == '[' else 'ends in a backslash'}")
        if token[0].startswith("*"):
            runs.append(_Run())
        else:
            pattern, text = _one_character(glob, token)
            known = runs[-1].text
            runs[-1] = _Run(runs[-1].pattern + pattern, None if known is None or text is None else known + text)
        position = token.end()
    return runs


def _one_character(glob: str, token: re.Match[str]) -> _Run:
    escaped, negated, members, literal = token.groups()
    if token[0] == "?":
        return _Run(".", None)
    if members is None:
        text = escaped or literal
        return _Run(re.escape(text), text)
    members = re.sub(r"(.)(?:-(.))?", lambda found: _members(glob, found), members, flags=re.DOTALL)
    return _Run(f"[{'^' if negated else ''}{members}]", None)


def _members(glob: str, found: re.Match[str]) -> str:
    low, high = found.groups()
    if high is None:
        return re.escape(low)
    if low > high:
        raise ValueError(f"{glob!r}: the range {low}-{high} is empty")
    return f"{re.escape(low)}-{re.escape(high)}"
