"""Help comes at once: it is what people read while they look for the right command."""

import json
import subprocess
import sys

HELP_OF_EVERY_COMMAND = """
import json, sys
import typer.main
from orgstats.cli.app import app

def texts(command, context):
    yield context.command_path, command.get_help(context)
    for name, inner in getattr(command, "commands", {}).items():
        yield from texts(inner, type(context)(inner, info_name=name, parent=context))

command = typer.main.get_command(app)
found = dict(texts(command, command.context_class(command, info_name="orgstats")))
slow = sorted({"pydantic", "confluent_kafka", "clickhouse_driver", "starlette", "msgspec", "rich"} & set(sys.modules))
print(json.dumps([found, slow]))
"""


def test_no_help_text_waits_for_a_heavy_import_and_each_command_shows_an_example() -> None:
    """Printing help imports none of the libraries that the commands themselves need, and has an example to copy."""
    ran = subprocess.run([sys.executable, "-c", HELP_OF_EVERY_COMMAND], capture_output=True, check=True, timeout=60)
    texts, slow = json.loads(ran.stdout)
    assert slow == []
    assert len(texts) > 30
    parents = {name.rpartition(" ")[0] for name in texts}
    assert [name for name, text in texts.items() if name not in parents and "Example" not in text] == []
