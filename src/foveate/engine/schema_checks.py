"""Whether a JSON schema can be met by a value that ends.

Owns the one contradiction that the grammar library does not see: a schema that requires itself, for ever. Ranges,
types and unknown keywords are the library's to refuse.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any


def has_finite_value(schema: Mapping[str, Any]) -> bool:
    """Whether the schema's references and requirements leave room for a finite value.

    The references that do are a least fixed point: each round adds those that need no others but known ones.
    References that cannot be followed count as met.
    """
    targets = {name: _resolve(schema, name) for name in set(_references(schema))}
    finite: set[str] = set()
    while grown := {name for name in targets.keys() - finite if _finite(targets[name], finite)}:
        finite |= grown
    return _finite(schema, finite)


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _references(value)


def _resolve(root: Mapping[str, Any], reference: str) -> Any:
    """The schema a pointer within this one names; True (anything) for others."""
    if reference != "#" and not reference.startswith("#/"):
        return True
    node: Any = root
    for part in reference.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list | tuple) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
        elif isinstance(node, Mapping) and name in node:
            node = node[name]
        else:
            return True
    return node


def _finite(schema: Any, known: Collection[str]) -> bool:
    """Whether a finite value meets this schema if the `known` references, and no others, have one."""
    if not isinstance(schema, Mapping):
        return True
    if isinstance(schema.get("$ref"), str) and schema["$ref"] not in known:
        return False
    for keyword in ("anyOf", "oneOf"):
        options = schema.get(keyword)
        if isinstance(options, list | tuple) and not any(_finite(option, known) for option in options):
            return False
    parts = schema.get("allOf")
    needed = list(parts) if isinstance(parts, list | tuple) else []
    if schema.get("type") == "object" and isinstance(schema.get("required"), list | tuple):
        properties = schema.get("properties")
        needed += (
            [properties[name] for name in schema["required"] if name in properties] if properties else []
        )
    if schema.get("type") == "array" and isinstance(schema.get("minItems"), int):
        first = schema.get("prefixItems")
        items = list(first) if isinstance(first, list | tuple) else []
        needed += [*items, schema.get("items", True)][: schema["minItems"]]
    return all(_finite(part, known) for part in needed)
