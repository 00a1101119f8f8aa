"""What a stored replay was asked for, as options of the command: its list and the operators' page say the same."""

import json


def replay_options(request: str) -> list[tuple[str, str]]:
    """(option, its value or "" for none), by the names in the request; what would be so anyway is left out."""
    found: list[tuple[str, str]] = []
    for name, value in json.loads(request).items():
        option = f"--{'topic' if name == 'topics' else name}".replace("_", "-")
        if name == "partitions":
            found.append((option, ",".join(map(str, value))))
        elif value is True:
            found.append((option, ""))
        elif value != "refuse":  # of heads, if nothing else is said
            found += [(option, str(one)) for one in (value if isinstance(value, list) else [value])]
    return found
