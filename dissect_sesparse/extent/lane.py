"""What a lane is: the numbers that the table engine and the reader share, without numpy.

A window of the disk is an array of *lanes*, one 64-bit word for 4 KiB (or for a sector, see ``window``)::

     63     62   60 59     48 47                       0
    +------+-------+---------+--------------------------+
    |placed| state |  layer  |  place in the file, in   |
    |      |       |         |  sectors                 |
    +------+-------+---------+--------------------------+

``state`` is :class:`~dissect_sesparse.extent.entry.State`, ``layer`` says which extent of the window answers (0 is the
newest), ``placed`` that the place means something. A lane of 0 is answered by nobody.

A *kind* is a lane without its place: the layer in its upper twelve bits, then ``placed``, then the state. In this order
the kinds of the newest layers are small numbers, which Python does not make anew each time.
"""

from __future__ import annotations

from functools import cache

from dissect_sesparse.extent.entry import State

LANES = 4096
"""Lanes of a window; as many as a grain table has entries."""
LAYER_BITS = 12
MAX_LAYERS = 1 << LAYER_BITS
PLACE_BITS = 48


@cache  # there are few, and millions of runs have them
def split(kind: int) -> tuple[State, int, bool]:
    """State, layer, and whether there is a place, of a kind."""
    return State(kind & 7), kind >> 4, kind & 8 != 0


def lane_of(state: State, *, placed: bool = False) -> int:
    """The lane of a state in the newest layer; where it has a place, that of place 0."""
    return (state | (8 if placed else 0)) << 60


def lane_kind(state: State, *, placed: bool) -> int:
    """The kind of a state in the newest layer."""
    return state | (8 if placed else 0)
