"""Make the Python client's answers and operations from the API's own description.

python -m tools.client            writes chrono_ray/client/{answers,operations}.py
python -m tools.client --check    says by its exit code whether they are current
"""

from __future__ import annotations

import keyword
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chrono_ray import settings
from chrono_ray.api.app import create_app
from chrono_ray.api.edge import PREFIX
from tools.client_names import BY_HAND, NAMES, REPEATABLE, SECRET

FOLDER: Final = Path(__file__).resolve().parents[1] / "chrono_ray" / "client"
IDEMPOTENCY: Final = "Idempotency-Key"
CONDITIONS: Final = frozenset({"If-None-Match", "If-Range", "Range", "Cache-Control"})
"""Of reads: for caches, and for whoever goes on with a file."""
WIDTH: Final = 96
SIMPLE: Final = {
    "null": "None",
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
}
TIMES: Final = {"date-time": "datetime", "date": "date"}
HEAD: Final = '''"""{what} Made by `python -m tools.client`: change the API instead."""

from __future__ import annotations

'''
ANSWERS_IMPORT: Final = """\
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import Field as Said


"""
OPERATIONS_IMPORT: Final = """\
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Literal

from chrono_ray.client import answers as a
from chrono_ray.client.transport import UNSET, Transport, Unset, segment


"""
Schema = Mapping[str, Any]


def main(arguments: list[str]) -> int:
    """0 when the files are current, or were written; 1 when they are not."""
    made = generated()
    if "--check" in arguments:
        return int(any((FOLDER / name).read_text() != text for name, text in made.items()))
    for name, text in made.items():
        (FOLDER / name).write_text(text)
    return 0


def generated() -> dict[str, str]:
    """The files' texts by name."""
    nowhere = {"CHRONO_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    described = create_app(settings.load(nowhere)).openapi()
    operations = [each for each in _operations(described) if each.name != BY_HAND]
    schemas = described["components"]["schemas"]
    wanted = _reached([each.answers.values() for each in operations], schemas)
    return {
        name: _formatted(name, text)
        for name, text in (
            ("answers.py", _answers(schemas, wanted)),
            ("operations.py", _groups(operations, schemas)),
        )
    }


@dataclass(frozen=True, slots=True)
class Operation:
    """One of the API's, as the client calls it; `answers` by status, None for one without body."""

    method: str
    path: str
    name: str
    text: str
    parameters: list[Schema]
    body: Schema | None
    answers: dict[str, Schema | None]

    @property
    def group(self) -> str:
        return self.name.split(".")[0]

    @property
    def word(self) -> str:
        return self.name.split(".")[1]

    @property
    def once(self) -> bool:
        return any(each["name"] == IDEMPOTENCY for each in self.parameters)


def _operations(described: Schema) -> Iterator[Operation]:
    unnamed = []
    for path, methods in described["paths"].items():
        for method, found in methods.items():
            short = path.removeprefix(PREFIX)
            name = NAMES.get(f"{method.upper()} {short}")
            if name is None:
                unnamed.append(f"{method.upper()} {short}")
                continue
            body = found.get("requestBody", {}).get("content", {}).get("application/json", {})
            yield Operation(
                method.upper(), short, name, found.get("description", ""),
                [each for each in found.get("parameters", []) if each["name"] not in CONDITIONS],
                body.get("schema"),
                {status: _body(answer) for status, answer in found["responses"].items()
                 if status.startswith("2") or _body(answer)},
            )  # fmt: skip
    if unnamed:
        raise SystemExit(f"tools/client_names.py has no name for {', '.join(unnamed)}")


def _body(answer: Schema) -> Schema | None:
    return answer.get("content", {}).get("application/json", {}).get("schema") or None


def _reached(roots: Any, schemas: Schema) -> list[str]:
    """The names of all schemas that answers are made of."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            if "$ref" in each and (name := _name(each)) not in found:
                found.add(name)
                waiting.append(schemas[name])
            waiting.extend(each.values())
        elif not isinstance(each, str | int | float | None):
            waiting.extend(each)
    return sorted(found)


def _name(schema: Schema) -> str:
    return str(schema["$ref"]).rsplit("/", 1)[1]


def _answers(schemas: Schema, wanted: list[str]) -> str:
    parts = [HEAD.format(what="What the API answers."), ANSWERS_IMPORT]
    for name in wanted:
        schema = schemas[name]
        if schema.get("type") != "object":
            parts.append(f"{name} = {_type(schema)}\n\n\n")
            continue
        parts.append(_dataclass(name, schema))
    return "".join(parts)


def _dataclass(name: str, schema: Schema) -> str:
    lines = ["@dataclass(frozen=True, slots=True, kw_only=True)", f"class {name}:"]
    if schema.get("description"):
        lines.append(_docstring(schema["description"], "    "))
    required = set(schema.get("required", []))
    for field, each in schema.get("properties", {}).items():
        lines.append(f"    {_field(field, _type(each), missing=field not in required)}")
    return "\n".join(lines) + "\n\n\n"


def _field(name: str, kind: str, *, missing: bool) -> str:
    """A field that an answer may lack is None then."""
    kind = f"{kind} | None" if missing and "None" not in kind.split(" | ") else kind
    safe = _safe(name)
    kind = kind if safe == name else f'Annotated[{kind}, Said(validation_alias="{name}")]'
    if name in SECRET:
        return f"{safe}: {kind} = field(repr=False)"
    return f"{safe}: {kind} = None" if missing else f"{safe}: {kind}"


def _type(schema: Schema, prefix: str = "") -> str:
    match schema:
        case {"$ref": _}:
            return prefix + _name(schema)
        case {"anyOf": list(some)}:
            return " | ".join(dict.fromkeys(_type(each, prefix) for each in some))
        case {"const": value}:
            return f"Literal[{value!r}]"
        case {"enum": list(values)}:
            return f"Literal[{', '.join(repr(each) for each in values)}]"
        case _:
            return _typed(schema, prefix)


def _typed(schema: Schema, prefix: str) -> str:
    match schema:
        case {"type": "array", "prefixItems": list(items)}:
            return f"tuple[{', '.join(_type(each, prefix) for each in items)}]"
        case {"type": "array", "items": items}:
            return f"tuple[{_type(items, prefix)}, ...]"
        case {"type": "object"}:
            return f"dict[str, {_type(schema.get('additionalProperties') or {}, prefix)}]"
        case {"type": "string", "format": str(form)} if form in TIMES:
            return TIMES[form]
        case _:
            return SIMPLE.get(schema.get("type", ""), "object")


def _groups(operations: list[Operation], schemas: Schema) -> str:
    parts = [HEAD.format(what="The API's operations, by subject."), OPERATIONS_IMPORT]
    groups: dict[str, list[Operation]] = {}
    for each in operations:
        groups.setdefault(each.group, []).append(each)
    for group, members in groups.items():
        parts.append(_group(group, members, schemas))
    return "".join(parts)


def _group(group: str, members: list[Operation], schemas: Schema) -> str:
    title = "".join(word.title() for word in group.split("_"))
    lines = [
        f"class {title}Operations:", f'    """{group.replace("_", " ").capitalize()}."""', "",
        "    def __init__(self, transport: Transport) -> None:",
        "        self._transport = transport",
    ]  # fmt: skip
    for each in sorted(members, key=lambda one: one.word == "list"):  # `list` hides the type's name
        lines += ["", *_method(each, schemas)]
    return "\n".join(lines) + "\n\n\n"


def _method(operation: Operation, schemas: Schema) -> list[str]:
    page = _page_of(operation, schemas)
    signature = ", ".join(_arguments(operation, schemas, walked=page is not None))
    answer = f"Iterator[a.{page}]" if page else _result(operation)
    return [
        f"    def {operation.word}({signature}) -> {answer}:",
        _docstring(operation.text, "        "),
        *(f"        {line}" for line in _call(operation, page, schemas)),
    ]


def _page_of(operation: Operation, schemas: Schema) -> str | None:
    """The type of a list's items, where the list goes on by cursors."""
    answer = operation.answers.get("200")
    if answer is None or "$ref" not in answer:
        return None
    properties = schemas[_name(answer)].get("properties", {})
    walked = any(each["name"] == "cursor" for each in operation.parameters)
    return _name(properties["items"]["items"]) if walked and "items" in properties else None


def _arguments(operation: Operation, schemas: Schema, *, walked: bool) -> list[str]:
    places = [each for each in operation.parameters if each["in"] == "path"]
    ahead = [f"{_safe(each['name'])}: {_asked(each['schema'], schemas)}" for each in places]
    needed: list[str] = []
    optional: list[str] = []
    for name, kind, required in _given(operation, schemas):
        if walked and name in ("cursor", "limit"):
            continue
        (needed if required else optional).append(
            f"{_safe(name)}: {kind}" if required else f"{_safe(name)}: {kind} | Unset = UNSET"
        )
    named = [*needed, *optional]
    return ["self", *ahead, *(["*", *named] if named else [])]


def _given(operation: Operation, schemas: Schema) -> Iterator[tuple[str, str, bool]]:
    """What a caller names: parameters of the query and headers, and the body's fields."""
    for each in operation.parameters:
        if each["in"] != "path" and each["name"] != IDEMPOTENCY:
            kind = _asked(each["schema"], schemas).removesuffix(" | None")  # it cannot be said
            yield each["name"], _dated(each["name"], kind), bool(each.get("required"))
    body = _fields(operation.body, schemas)
    for name, schema in body.get("properties", {}).items():
        kind = _dated(name, _asked(schema, schemas))
        yield name, kind, name in body.get("required", [])


def _dated(name: str, kind: str) -> str:
    """A span's ends are text, for a year alone is one too; a date is as good."""
    return "str | date" if name in ("from", "to") and kind == "str" else kind


def _fields(body: Schema | None, schemas: Schema) -> Schema:
    if body is None:
        return {}
    if "anyOf" in body:
        body = next(each for each in body["anyOf"] if "$ref" in each)
    return dict(schemas[_name(body)])


def _asked(schema: Schema, schemas: Schema) -> str:
    """As `_type`, but a caller may give any sequence, and a part of a body as a dict."""
    match schema:
        case {"$ref": _}:
            target = schemas[_name(schema)]
            return _type(target) if "enum" in target else "dict[str, object]"
        case {"anyOf": list(some)}:
            return " | ".join(dict.fromkeys(_asked(each, schemas) for each in some))
        case {"type": "array"}:
            return f"Sequence[{_asked(schema['items'], schemas)}]"
        case {"type": "object"}:
            return "dict[str, object]"
        case _:
            return _type(schema)


def _result(operation: Operation) -> str:
    kinds = [_type(each, "a.") if each else "None" for each in operation.answers.values()]
    return " | ".join(dict.fromkeys(kinds))


def _call(operation: Operation, page: str | None, schemas: Schema) -> list[str]:
    places = {each["name"] for each in operation.parameters if each["in"] == "path"}
    path = operation.path
    for place in places:
        path = path.replace(f"{{{place}}}", f"{{segment({_safe(place)})}}")
    quoted = f'f"{path}"' if places else f'"{path}"'
    query = [each["name"] for each in operation.parameters if each["in"] == "query"]
    headers = [
        each["name"] for each in operation.parameters
        if each["in"] == "header" and each["name"] != IDEMPOTENCY
    ]  # fmt: skip
    arguments = [quoted]
    if page:
        query = [name for name in query if name not in ("cursor", "limit")]
        arguments.append(f"a.{_name(operation.answers['200'] or {})}")
        return [f"return self._transport.pages({', '.join([*arguments, *_sent('query', query)])})"]
    answers = ", ".join(
        f"{status}: {_type(each, 'a.')}" for status, each in operation.answers.items() if each
    )
    nothing = not any(operation.answers.values())
    arguments = [f'"{operation.method}"', quoted, *([] if nothing else [f"{{{answers}}}"])]
    arguments += _sent("query", query)
    arguments += _sent("headers", headers)
    if operation.body is not None:
        arguments += _sent("body", list(_fields(operation.body, schemas)["properties"])) or [
            "body={}"
        ]
    if operation.once:
        arguments.append("once=True")
    if operation.name in REPEATABLE:
        arguments.append("again=True")
    if nothing:
        return [f"self._transport.send({', '.join(arguments)})"]
    return [f"return self._transport.call({', '.join(arguments)})"]


def _sent(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    return [f"{what}={{{', '.join(f'{name!r}: {_safe(name)}' for name in names)}}}"]


def _safe(name: str) -> str:
    word = re.sub(r"\W", "_", name).lower()
    return f"{word}_" if keyword.iskeyword(word) else word


def _docstring(text: str, indent: str) -> str:
    paragraphs = [
        "\n".join(textwrap.wrap(" ".join(each.split()), WIDTH - len(indent)))
        for each in text.replace("\\", "\\\\").split("\n\n")
    ]
    joined = "\n\n".join(paragraphs)
    closing = "\n" if "\n" in joined else ""
    return textwrap.indent(f'"""{joined}{closing}"""', indent)


def _formatted(name: str, text: str) -> str:
    """As ruff would have it."""
    for order in (["check", "--fix", "--quiet", "--select", "F401,I"], ["format", "--quiet"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *order, "--stdin-filename", str(FOLDER / name), "-"],
            input=text, cwd=FOLDER.parents[1], capture_output=True, text=True, check=False,
        )  # fmt: skip
        text = done.stdout
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
