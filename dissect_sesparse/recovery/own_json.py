"""JSON that an earlier run wrote, read as what it is: a file in which anything may lie.

A value is plain JSON of a bounded size and depth, or reading it is an error of ours. What shape it must have says a
:data:`Shape`: a type, or several, a list of one shape, a dictionary of named ones or (key ``...``) of any names.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NoReturn

from dissect_sesparse.recovery.writing import RecoverError, system_errors

if TYPE_CHECKING:
    from dissect_sesparse.recovery.writing import OutputFolder

MAX_JSON_SIZE = 64 << 20
"""Bytes."""
MAX_DEPTH = 32
_MAX_DIGITS = 40
JSON_ADVICE = "it was changed, or is not of this program: use another folder"

Shape = Any


def read_json(folder: OutputFolder, name: str, shape: Shape = dict) -> Any:
    """The value in a file of an output folder; ``None`` where there is no such file.

    Args:
        folder: The output folder.
        name: Of the file, with slashes.
        shape: What the value must be like.

    Raises:
        RecoverError: If it cannot be read, or is anything else.
    """
    path = folder.path.joinpath(*name.split("/"))
    with system_errors(path, "read"):
        fh = folder.take_up(path, write=False)
        if fh is None:
            return None
        with fh:
            size = os.fstat(fh.fileno()).st_size
            if size > MAX_JSON_SIZE:
                raise RecoverError(
                    f"it has {size} bytes", file=path, expected=f"at most {MAX_JSON_SIZE}", advice=JSON_ADVICE
                )
            data = b""
            while len(data) <= size and (more := fh.read(size + 1 - len(data))):
                data += more
    try:
        value = _parse(data)
        _hold(value, shape, "it")
    except (ValueError, RecursionError) as e:  # UnicodeDecodeError is a ValueError
        problem = "nested too deeply" if isinstance(e, RecursionError) else str(e)
        raise RecoverError(f"cannot be read: {problem}", file=path, advice=JSON_ADVICE) from e
    return value


def _parse(data: bytes) -> Any:
    value = json.loads(
        data.decode("utf-8"), parse_constant=_no_number, parse_int=_integer, object_pairs_hook=_unique_keys
    )
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            raise RecursionError
        level = [
            inner
            for outer in level
            if isinstance(outer, (list, dict))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (list, dict))
        ]
        depth += 1
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _hold(value: Any, shape: Shape, what: str) -> None:
    """See to it that a value has a shape.

    Raises:
        ValueError: If not.
    """
    if isinstance(shape, list):
        _be(value, list, what)
        for inner in value:
            _hold(inner, shape[0], f"an element of {what}")
    elif isinstance(shape, dict):
        _be(value, dict, what)
        for key, inner in shape.items():
            if key is ...:
                for name in value:
                    _hold(value[name], inner, f"a value of {what}")
            elif key not in value:
                raise ValueError(f"{what} has no {key!r}")
            else:
                _hold(value[key], inner, repr(key))
    else:
        _be(value, shape, what)


def _be(value: Any, kinds: type | tuple[type, ...], what: str) -> None:
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if type(value) not in kinds:  # not isinstance: to Python a truth value is a number
        names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
        raise ValueError(f"{what} is a {type(value).__name__}, not {names}")
