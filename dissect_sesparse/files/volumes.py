"""The volumes of a disk in each of its states: those whose file system dissect opens, and why it does not open the others.

A volume counts as explained only on positive evidence: its file system or what it is made of was opened, its type says that
it holds no files, or there is nothing in it. All others are *not looked at*, and are said to be.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from dissect.target import filesystem
from dissect.target.containers.raw import RawContainer
from dissect.target.exceptions import FilesystemError
from dissect.target.target import Target
from dissect.util.stream import RangeStream

from dissect_sesparse.files.trust import fault_of_reader
from dissect_sesparse.files.versions import volume_of
from dissect_sesparse.files.volume_kinds import WITHOUT_FILES, VolumeKind, emptiness, volume_kind
from dissect_sesparse.findings.findings import Finding
from dissect_sesparse.source.errors import SESparseError, short
from dissect_sesparse.time.views import view_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dissect.target.filesystem import Filesystem
    from dissect.target.volume import Volume

    from dissect_sesparse.chain.chain import Chain

MAX_FINDINGS = 100
"""Volumes of a disk that findings are yielded for."""
MAX_PARTITION_TABLE = 16 << 20
"""Bytes of a GPT: 16 KiB in practice. Its header may say anything, and who reads it would go through all of it."""
_QUIET = logging.getLogger(f"{__name__}.states")
"""Where a target of ours logs: it said the same of the running state when it was opened."""
_QUIET.setLevel(logging.CRITICAL)
_opening: ContextVar[bool] = ContextVar("_opening", default=False)
_BTRFS_TOP = 5
"""The subvolume that holds all others (BTRFS_FS_TREE_OBJECTID)."""
_KEY = "its key is needed: target-query takes it by -K or -Kv"


class _NotWhileOpening(logging.Filter):
    """Keeps back what dissect logs of volumes that it does not recognize while this module looks at them: here it is data."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _opening.get()


for _name_of_logger in ("dissect.target.volume", "dissect.target.filesystem"):
    logging.getLogger(_name_of_logger).addFilter(_NotWhileOpening())


@dataclass(frozen=True)
class VolumeState:
    """A file system in one state of the disk."""

    depth: int
    """Of the link that was the newest then."""
    fs: Filesystem
    volume: Any
    place: int | None
    """Where on the disk its volume starts; ``None`` where it is not one piece of the disk."""

    @property
    def name(self) -> str:
        """What dissect calls its volume."""
        return _name(self.volume)

    @property
    def serial(self) -> tuple[str, str | None]:
        """The kind of file system, and its serial number or UUID where it has one."""
        return self.fs.__type__, _serial(self.fs)


class Unopened(NamedTuple):
    """A volume that was not looked at. Offset and size in bytes."""

    where: str
    """What dissect calls it."""
    message: str
    offset: int | None
    """On the disk; ``None`` where it is not one piece of it."""
    size: int | None
    level: str = "warning"
    """``info`` for one that is empty as far as it was looked at."""
    kind: VolumeKind | None = None
    """What it is, where that is known."""
    readable: bool = True


@dataclass
class Opened:
    """What there is on a disk in one state."""

    states: list[VolumeState] = field(default_factory=list)
    unopened: list[Unopened] = field(default_factory=list)


def open_volumes(chain: Chain, depth: int) -> Opened:
    """The file systems of a disk as of one link, as dissect opens them, and what was not opened. Raises nothing."""
    opened = Opened()
    token = _opening.set(True)
    try:
        _open(chain, depth, opened)
    except Exception as e:  # whatever dissect trips over
        why = f"the disk cannot be opened, none of its file systems was looked at: {_reason(e)}"
        opened.unopened.append(Unopened("the whole disk", why, 0, chain.links[depth].size, readable=False))
    finally:
        _opening.reset(token)
    return opened


def filesystem_findings(chain: Chain) -> Iterator[Finding]:
    """A finding for each volume that is not opened in some state of the disk, the newest state first."""
    found: dict[Unopened, list[int]] = {}
    for depth in range(len(chain.links)):
        for unopened in open_volumes(chain, depth).unopened:
            found.setdefault(unopened, []).append(depth)
    for unopened, depths in list(found.items())[:MAX_FINDINGS]:
        also = f"; the same as of {len(depths) - 1} older links" if len(depths) > 1 else ""
        yield Finding(
            "filesystem-unopened",
            "info" if unopened.level == "info" else "warning",
            f"{unopened.message}{also}",
            depths[0],
            chain.links[depths[0]].path,
            None,
            unopened.offset,
            unopened.size,
        )
    if len(found) > MAX_FINDINGS:
        yield Finding(
            "filesystem-unopened",
            "warning",
            f"{len(found) - MAX_FINDINGS} more volumes are not looked at, not listed",
            0,
        )


def hidden(state: VolumeState, others: Sequence[Unopened]) -> str | None:
    """Why a file system that another state of the disk does not show may be there all the same.

    Args:
        state: The file system.
        others: What was not opened in the other state.

    Returns:
        The reason; ``None`` where it is surely not there.
    """
    for unopened in others:
        start, size = unopened.offset, unopened.size
        if unopened.level == "info" or _is_another(unopened, state):
            continue
        if start is None or size is None or state.place is None:
            return unopened.message
        if start < state.place + state.volume.size and state.place < start + size:
            return unopened.message
    return None


def _is_another(unopened: Unopened, state: VolumeState) -> bool:
    """Whether a volume surely is not that of a file system: the magic of its kind, which it had, is not there any more."""
    kind = unopened.kind
    if not unopened.readable or (kind is not None and kind.holds != "files"):
        return False
    with suppress(Exception):  # then it is not known
        return volume_kind(_reader(state.volume), state.volume.size) != kind
    return False


def _reader(volume: Any) -> Callable[[int, int], bytes]:
    def read(offset: int, length: int) -> bytes:
        volume.seek(offset)
        return volume.read(length)

    return read


def _open(chain: Chain, depth: int, opened: Opened) -> None:
    view = view_at(chain, depth)
    assert view is not None
    disk = RawContainer(view.open())
    _check_partition_table(disk)
    target = Target()
    target.log = _QUIET  # type: ignore[assignment]
    target.disks.add(disk)
    target.disks.apply()
    target.volumes.apply()
    for fs in target.filesystems:
        volume: Any = volume_of(fs)
        place = _place(volume, disk)
        if (fault := fault_of_reader(fs)) is not None:
            message = f"volume {short(_name(volume))} ({volume.size} bytes) is not looked at: {fault}"
            opened.unopened.append(Unopened(_name(volume), message, place, volume.size))
            continue
        if fs.__type__ == "btrfs":  # all of it, not what is mounted by default
            fs = fs.open_subvolume(subvolid=_BTRFS_TOP)  # type: ignore[attr-defined]
        elif fs.__type__ == "ext":
            from dissect_sesparse.extfs.inline import read_inline_data  # it needs the reader, which may not be there

            read_inline_data(fs)
        opened.states.append(VolumeState(depth, fs, volume, place))
    volumes = list(target.volumes)
    for volume in volumes:
        if volume.fs is None:
            opened.unopened += _unopened(volume, volumes, disk)
    opened.unopened += _skipped(volumes)


def _check_partition_table(disk: RawContainer) -> None:
    """Refuse a GPT that is larger than any."""
    disk.seek(512)
    header = disk.read(92)
    size = int.from_bytes(header[80:84], "little") * int.from_bytes(header[84:88], "little")
    if header[:8] == b"EFI PART" and size > MAX_PARTITION_TABLE:
        raise SESparseError(field="size of the partition table", value=size, expected=f"up to {MAX_PARTITION_TABLE}")


def _unopened(volume: Any, volumes: list[Any], disk: RawContainer) -> Iterator[Unopened]:
    """Why a volume without a file system has none; nothing where that is explained."""
    if any(volume is not other and _is_part_of(volume, other) for other in volumes):
        return
    place, size = _place(volume, disk), volume.size
    what = f"volume {short(_name(volume))} ({size} bytes"
    what += f" at {place:#x})" if place is not None else ")"

    read = _reader(volume)
    try:
        kind = volume_kind(read, size)
        if (kind is not None and kind.holds == "nothing") or str(volume.type).lower() in WITHOUT_FILES:
            return
        empty = emptiness(read, size) if kind is None else None
    except Exception as e:  # whatever a read trips over
        yield Unopened(_name(volume), f"{what} cannot be read: {_reason(e)}", place, size, readable=False)
        return
    if empty is not None and empty.zero:
        if empty.looked < size:
            message = f"{what} was not opened: it is zero in the {empty.looked} bytes that were looked at"
            yield Unopened(_name(volume), message, place, size, "info")
        return
    yield Unopened(_name(volume), f"{what} was not opened: {_why(kind, volume)}", place, size, kind=kind)


def _is_part_of(volume: Any, other: Any) -> bool:
    """Whether a volume lies in another one, as a logical volume does in its physical ones."""
    below: list[Any] = []
    for origin in (getattr(other.vs, "fh", None), getattr(other.vs, "disk", None)):
        below += origin if isinstance(origin, list) else [origin]
    return any(each is volume or getattr(each, "fh", None) is volume for each in below)


def _why(kind: VolumeKind | None, volume: Any) -> str:
    if kind is None:
        return "its first bytes are those of no kind of volume that is known here; it may be encrypted"
    what = f"it is {kind.name}" if kind.holds != "secret" else f"it is encrypted ({kind.name})"
    if kind.package is None:
        return f"{what}, which dissect has no reader for"
    if find_spec(kind.package) is None:
        return f"{what}, and {kind.package}, which opens that, is not installed (pip install {kind.package})"
    if kind.holds == "secret":
        return f"{what}: {_KEY}"
    if kind.holds == "volumes":
        return f"{what}, of which no volume can be opened: each disk is looked at by itself, others may be needed"
    return f"{what}, and {kind.package} cannot open it: {_failure(volume)}"


def _failure(volume: Any) -> str:
    """What its reader says to it: dissect only logs that."""
    try:
        filesystem.open(volume)
    except FilesystemError as e:
        return _reason(e.__cause__) if e.__cause__ is not None else "it does not recognize it"
    except Exception as e:  # whatever it trips over
        return _reason(e)
    return "it is not among the volumes"


def _skipped(volumes: list[Any]) -> Iterator[Unopened]:
    """Logical volumes of a type that dissect leaves out in silence, such as a RAID or a cache."""
    seen: set[int] = set()
    for volume in volumes:
        group = getattr(getattr(volume.vs, "lvm", None), "volume_group", None)
        if group is None or id(group) in seen:
            continue
        seen.add(id(group))
        opened = {id(other.raw) for other in volumes}
        for name, logical in getattr(group, "logical_volumes", {}).items():
            kind = str(getattr(logical, "type", ""))
            if (
                id(logical) in opened
                or kind == "thin-pool"
                or "VISIBLE" not in (getattr(logical, "status", None) or ())
            ):
                continue
            message = (
                f"the logical volume {short(str(name))} was not opened: dissect does not open the type {short(kind)}"
            )
            yield Unopened(str(name), message, None, None)


def _reason(error: BaseException) -> str:
    """The innermost message, this package's if there is one: dissect wraps errors in others."""
    while not isinstance(error, SESparseError) and (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return short(str(error) or type(error).__name__, 500)


def _name(volume: Any) -> str:
    return getattr(volume, "name", None) or f"part_{getattr(volume, 'offset', 0) or 0:08x}"


def _place(volume: Volume, disk: RawContainer) -> int | None:
    """Where on the disk a volume starts; ``None`` where it is not one piece of it, or that cannot be told."""
    if volume.fh is disk:
        return 0
    vs = volume.vs
    if vs is not None and vs.__type__ == "disk" and vs.fh is disk and isinstance(volume.fh, RangeStream):
        return volume.offset
    return None


def _serial(fs: Any) -> str | None:
    """What tells a file system from others of its kind, where dissect knows it."""
    gets: tuple[Callable[[], object], ...] = (
        lambda: fs.ntfs.serial, lambda: fs.extfs.uuid, lambda: fs.xfs.sb.sb_uuid, lambda: fs.btrfs.uuid,
        lambda: fs.fatfs.volume_id,
    )  # fmt: skip
    for get in gets:
        with suppress(Exception):  # another kind, or it cannot be read
            return str(get())
    return None
