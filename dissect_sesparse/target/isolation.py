"""One broken disk never costs a target its other disks.

dissect.target looks for volumes on all disks of a target in one go, and a read error there (``DiskCollection.apply``,
``VolumeCollection.apply``) ends the opening of the whole target. A reader that refuses to invent
bytes has such errors. So (see :mod:`~dissect_sesparse.target.hooks`):

* ``filesystem.open`` is wrapped while volumes are looked at: a volume that cannot be read stays without a file system, and
  the reason is in the log. It stays in ``target.volumes``, and all others keep theirs, also on the same disk.
* Both collections are wrapped: where one still fails with an error of ours, what it met is set aside, said in the log, and
  the rest is tried again. The disk stays in ``target.disks``, so that ``sesparse.findings`` can tell about it.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any

from dissect_sesparse.files.versions import disks_below
from dissect_sesparse.source.errors import SESparseError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

_TARGET: ContextVar[Any] = ContextVar("target", default=None)
"""The target whose volumes are being looked at."""
_FIRST = 8 * 1024 * 1024
"""What ``VolumeCollection.apply`` reads of a volume without a file system, and where an error ends everything."""


def skipping(open_: Callable) -> Callable:
    """Wrap ``filesystem.open`` so that a volume whose bytes cannot be had is left without a file system."""
    from dissect.target.exceptions import FilesystemError

    @wraps(open_)
    def wrapper(fh: BinaryIO, *args: object, **kwargs: object) -> Any:
        try:
            return open_(fh, *args, **kwargs)
        except FilesystemError as e:
            target = _TARGET.get()
            error = (_ours(e) or _unreadable(fh)) if target is not None else None
            if target is None or error is None:
                raise
            target.log.error("Left without a file system, going on with the rest: %s: %s", fh, error)  # noqa: TRY400
            return None

    return wrapper


def _unreadable(fh: BinaryIO) -> SESparseError | None:
    """The error of ours that the read of a volume's first bytes meets, if any."""
    try:
        fh.seek(0)
        fh.read(_FIRST)
    except Exception as e:
        return _ours(e)
    return None


def isolating(apply: Callable) -> Callable:
    """Wrap a collection's ``apply`` so that an entry that cannot be read is left out, and the rest is tried again."""

    @wraps(apply)
    def wrapper(self: Any, *args: object, **kwargs: object) -> None:
        looking = _TARGET.set(self.target)
        try:
            isolated(self, *args, **kwargs)
        finally:
            _TARGET.reset(looking)

    def isolated(self: Any, *args: object, **kwargs: object) -> None:
        others = [self.target.volumes, self.target.filesystems]
        others = [collection for collection in others if collection is not self]
        entries = all_entries = list(self.entries)
        while True:
            before = [list(collection.entries) for collection in others]
            try:
                apply(self, *args, **kwargs)
                break
            except Exception as e:
                error = _ours(e)
                met = [entry for entry in entries if _met(entry, error)] if error is not None else []
                if not met:
                    raise
                for collection, content in zip(others, before):
                    collection.entries[:] = content
                entries = [entry for entry in entries if entry not in met]
                self.entries[:] = entries
                message = "Left out what cannot be read, going on with the rest: %s: %s"
                self.target.log.error(message, met[0], error)  # noqa: TRY400
        if self is self.target.disks:
            self.entries[:] = all_entries

    return wrapper


def _ours(error: BaseException | None) -> SESparseError | None:
    """The error of ours that another one was raised from."""
    while error is not None:
        if isinstance(error, SESparseError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _met(entry: Any, error: SESparseError) -> bool:
    """Whether the error is about this disk, or about bytes of this volume."""
    disks = list(_disks(entry))
    chain = getattr(error, "chain", None)
    if not any(getattr(disk, "chain", None) is chain for disk in disks):
        return False
    offset, start = getattr(error, "offset", None), getattr(entry, "offset", None)
    if isinstance(error, UnreadableError) and offset is not None and start is not None and entry not in disks:
        return start <= offset < start + entry.size
    return True


def _disks(entry: Any) -> Iterator[Any]:
    """The disk or disks below a volume (of a volume, of a logical volume); a disk itself."""
    below = disks_below(entry)
    if not below:
        yield entry
    for disk in below:
        yield from _disks(disk)
