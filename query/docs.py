"""The OpenAPI document as one plain page: no script, nothing from elsewhere, so it works offline."""

import json
from html import escape
from typing import Any

Json = dict[str, Any]

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; border-top: 1px solid; padding-top: 1rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884; }
code, pre { font: 14px/1.5 ui-monospace, monospace; }
pre { overflow-x: auto; padding: .6rem; background: #8882; }
"""


def page(document: Json) -> str:
    """HTML of an OpenAPI document as `openapi.document` makes it."""
    info = document["info"]
    operations = "".join(
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    schemes = _table(
        ("credentials", "how"),
        [(name, scheme["description"]) for name, scheme in document["components"]["securitySchemes"].items()],
    )
    title = f"{info['title']} {info['version']}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><h1>{escape(title)}</h1><p>{escape(info['description'])} "
        f'For machines: <a href="openapi.json">openapi.json</a>.</p>{schemes}{operations}</body></html>'
    )


def _operation(method: str, path: str, operation: Json) -> str:
    parts = [
        f"<h2><code>{method.upper()} {escape(path)}</code></h2>",
        f"<p>{escape(operation['summary'])}. {'' if operation['security'] else 'Needs no token.'}</p>",
    ]
    if parameters := operation.get("parameters"):
        rows = [(p["name"], f"{p['description']} ({p['schema']['type']})") for p in parameters]
        parts.append(_table(("parameter", "meaning"), rows))
    responses = operation["responses"]
    if headers := responses["200"].get("headers"):
        parts.append(_table(("header", "meaning"), [(name, h["description"]) for name, h in headers.items()]))
    parts.append(_table(("status", "when"), [(status, _response(r)) for status, r in responses.items()]))
    if example := responses["200"]["content"].get("application/json", {}).get("example"):
        parts.append(f"<pre>{escape(json.dumps(example))}</pre>")
    return "".join(parts)


def _response(response: Json) -> str:
    texts = response.get("content", {}).get("application/json", {}).get("examples", {})
    return " ".join([response["description"], *(f"“{text}”" for text in texts)])


def _table(heads: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    body = "".join(f"<tr><td><code>{escape(left)}</code></td><td>{escape(right)}</td></tr>" for left, right in rows)
    return f'<table><tr><th scope="col">{heads[0]}</th><th scope="col">{heads[1]}</th></tr>{body}</table>'
