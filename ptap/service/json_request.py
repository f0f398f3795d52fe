"""Reading the JSON of a request: a value of another shape than is wanted is the asker's mistake, and told as such."""

from __future__ import annotations

import json
from typing import Any

from werkzeug.exceptions import BadRequest


def read_json(body: bytes) -> Any:
    """The value that `body` holds. Raises BadRequest."""
    try:
        return json.loads(body)
    except RecursionError:
        raise BadRequest("the JSON is nested too deep") from None
    except ValueError as error:  # also bytes that are no text, and numbers of thousands of digits
        raise BadRequest(f"this is no JSON: {error}") from None


def member(value: Any, name: str, kind: type, what: str) -> Any:
    """`value[name]`, which has to be of that type. `what` is what `value` is. Raises BadRequest."""
    if not isinstance(value, dict):
        raise BadRequest(f"{what} has to be an object, not {kind_name(value)}")
    if name not in value:
        raise BadRequest(f"{what} lacks {name!r}")
    if not isinstance(value[name], kind):
        raise BadRequest(f"{name!r} of {what} has to be {_NAMES[kind]}, not {kind_name(value[name])}")
    return value[name]


def kind_name(value: Any) -> str:
    """What a value is called in JSON."""
    return "null" if value is None else _NAMES.get(type(value), "something else")


_NAMES = {dict: "an object", list: "an array", str: "a string", int: "a number", float: "a number", bool: "a boolean"}
