"""What is known of the target that is being opened.

dissect gives a container nothing but a path, so the loader of ``sesparse://`` leaves the query of its URI here while the
real loader opens its disks.
"""

from __future__ import annotations

from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

URI_OPTIONS: ContextVar[Mapping[str, str]] = ContextVar("URI_OPTIONS", default=MappingProxyType({}))
"""Options of the URI that is being opened."""

CHILD_OF = "dissect_sesparse.parent"
"""Where in ``target.props`` of a snapshot the target is whose child it is."""
