"""What is known of the target that is being opened.

dissect gives a container nothing but a path, so the loader of ``sesparse://`` leaves the query of its URI here while the
real loader opens its disks, and the loader of a VM what its disks may name.
"""

from __future__ import annotations

from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dissect_sesparse.source.folder import Folder

SCHEME = "sesparse"
"""Of URIs with options."""
URI_OPTIONS: ContextVar[Mapping[str, str]] = ContextVar("URI_OPTIONS", default=MappingProxyType({}))
"""Options of the URI that is being opened."""

WITHIN: ContextVar[Folder | None] = ContextVar("WITHIN", default=None)
"""The folder of the VM whose disks are being opened: its ``.vmx`` and its snapshot list may name no more than it may. Without,
it is the user who names the disk."""

CHILD_OF = "dissect_sesparse.parent"
"""Where in ``target.props`` of a snapshot the target is whose child it is."""
