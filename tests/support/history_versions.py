"""The contents that ``sesparse.versions`` lists of files, held against the truth of a history."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.files.not_looked import NotAllLookedAtError
from dissect_sesparse.history.file_versions import file_versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from history_guest import Life
    from history_score import Truths

    from dissect_sesparse.history.file_versions import FileVersion


def score_versions(truths: Truths) -> tuple[Counter[str], list[str]]:
    """Hold each version whose bytes are all there against what a file of its names held in the states that are said to have it.

    Returns:
        Counts, and a line for each version that is said to be complete, and is none.
    """
    count: Counter[str] = Counter()
    breaches: list[str] = []
    found: set[tuple[int, bytes]] = set()
    with open_chain(truths.history.path) as chain, suppress(NotAllLookedAtError):
        for version in file_versions(chain, None, lambda message: None):
            data, state = data_of(version), version.recovered.state
            if state not in ("complete", "likely") or not version.states:
                continue
            lives = _lives(truths, version)
            found |= {(id(life), data) for life in lives}
            numbers = [truths.history.states - 1 - link.depth for link in version.states]
            right = all(any(n in life.states and life.states[n][1] == data for life in lives) for n in numbers)
            doubted = not lives or any(life.doubt for life in lives)
            count[f"versions {state}"] += 1
            if not right and not doubted:
                count[f"versions {state} wrong"] += 1
                if state == "complete":
                    breaches.append(f"VERSION: {version.file.path} in states {numbers}, {len(data)} bytes")
    wanted = {(id(life), data) for life, data in _several(truths)}
    count["versions"] = len(wanted)
    count["versions found"] = len(wanted & found)
    return count, breaches


def data_of(version: FileVersion) -> bytes:
    """The bytes of a version, where all are there."""
    data = bytearray(version.file.size if version.recovered.state in ("complete", "likely") else 0)
    for piece in version.file.pieces() if data else ():
        data[piece.offset : piece.offset + len(piece.data)] = piece.data
    return bytes(data)


def _lives(truths: Truths, version: FileVersion) -> list[Life]:
    names = {truths.history.driver.path_of(name) for name in version.names}
    return list({id(life): life for name in names for life in truths.of_path(name)}.values())


def _several(truths: Truths) -> Iterator[tuple[Life, bytes]]:
    """The contents of files that had several in states of the disk."""
    for life in truths.history.lives:
        held = {data for _, data in life.states.values()}
        if len(held) > 1 and not life.doubt:
            yield from ((life, data) for data in held)
