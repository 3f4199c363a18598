"""Single words of the backmap held against single entries: for repairs at opening, so without numpy (see ``backmap``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dissect_sesparse.extent.entry import BackmapWord
    from dissect_sesparse.extent.metadata import Metadata


def names_entry(metadata: Metadata, word: BackmapWord | None, index: int, slot: int) -> bool:
    """Whether a word is that of an entry: its table number is the table's index, or the table."""
    if not word or not word.is_valid or word.slot != slot:
        return False
    return word.table == index or metadata.raw_index_of(word.table) == index


def named_by(metadata: Metadata, word: BackmapWord) -> list[int]:
    """The raw entries that a word may be about: one, or two where its reading is not clear."""
    indexes = {word.table, metadata.raw_index_of(word.table)}
    count = metadata.header.table_count
    found = [metadata.raw_entry(index, word.slot) for index in indexes if index is not None and index < count]
    return [entry for entry in found if entry is not None]
