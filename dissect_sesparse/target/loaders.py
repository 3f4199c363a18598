"""Which machines a target names, and how each is opened: as dissect's tools do it, with a reason for what cannot be.

``Target.open_all`` logs that a target cannot be loaded, and goes on; a command has to know. So its steps are taken here: the
loader that detects the path, what ``find_all`` of that loader yields, and for a folder that no loader takes, one folder
deep. Children are not opened. Of loose disks in such a folder the newest of each chain counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dissect.target import loader as loaders
from dissect.target.helpers.loaderutil import parse_path_uri

from dissect_sesparse.chain.detect import is_ours, newer_links
from dissect_sesparse.chain.parent import descriptor_of
from dissect_sesparse.source.errors import FileError, Kind, SESparseError
from dissect_sesparse.source.file import is_local
from dissect_sesparse.source.folder import Folder, exists, identity, is_folder, is_regular, refuse_irregular, would_hang
from dissect_sesparse.source.text import logger_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from urllib.parse import ParseResult

    from dissect.target.loader import Loader
    from dissect.target.target import Target

log = logger_of(__name__)


@dataclass(frozen=True)
class Found:
    """A machine, or a disk without one, that was not opened yet."""

    label: str
    """What it is called in messages."""
    path: Path
    loader: Any
    """dissect's class, which may be lazy."""
    spec: str | Path
    parsed: ParseResult | None = None
    named: bool = True
    """Whether the user named it, or a folder in which it was found."""
    archive: Path | None = None
    """The file that holds all of it: evidence by itself."""

    def open(self) -> Target:
        """Open it for its disks alone.

        Raises:
            Exception: Whatever a loader of dissect trips over.
        """
        from dissect.target.target import Target

        opened: Loader = self.loader(self.path, parsed_path=self.parsed)
        target = Target(self.spec)
        opened.map(target)
        target._loader = opened
        return target


def machines_named(spec: str | Path) -> list[Found]:
    """The machines that a target names: a path, a folder, or a URI of one.

    Raises:
        FileError: If there is none.
        Exception: What a loader trips over that was to list them.
    """
    path, parsed = parse_path_uri(spec)
    if path is None:
        raise FileError("no target", value=spec, field="TARGET")
    by_scheme = loaders.find_loader_by_scheme(parsed.scheme) if parsed is not None else None
    if by_scheme is not None:
        refuse_irregular(path)
        return list(_all_of(by_scheme, path, spec, parsed))
    path = Path(spec) if not isinstance(spec, Path) else spec
    refuse_irregular(path)
    if not exists(path):
        raise FileError("no such file or folder", file=path)
    if not is_folder(path):
        return list(_all_of(loader_at(path), path, path, None))
    if (found := detected(path)) is not None:
        return list(_all_of(found, path, path, None))
    if not (inside := list(_inside(path))):
        empty = next(path.iterdir(), None) is None
        problem = "an empty folder" if empty else "no machine and no seSparse disk in it, nor one folder deeper"
        raise FileError(problem, file=path)
    return inside


def _all_of(loader: Any, path: Path, spec: str | Path, parsed: ParseResult | None) -> Iterator[Found]:
    for sub in loader.find_all(path, parsed_path=parsed):
        if sub is path:
            yield Found(str(spec), path, loader, spec, parsed)
            continue
        below, own = parse_path_uri(sub) if isinstance(sub, str) else (sub, parsed)
        label = str(below) if below is not None and is_local(below) else f"{path}: {below}"
        holds = is_regular(path) and below is not None and not is_local(below)
        yield Found(label, below or path, loader, sub, own, named=label == str(path), archive=path if holds else None)


def _inside(folder: Path) -> Iterator[Found]:
    """What a folder holds that no loader takes as a whole."""
    loose: dict[str, Path] = {}
    here = Folder(folder)
    for entry in sorted(folder.iterdir()):
        if would_hang(entry):
            log.warning("%s: a FIFO or a socket, it is not opened", entry)
            continue
        if not (here.is_inside(entry) if is_folder(entry) else here.is_no_wider(entry)):
            yield Found(str(entry), entry, _refuse_way_out, entry, named=False)
            continue
        if (loader := detected(entry)) is not None:
            yield from (replace(found, named=False) for found in _all_of(loader, entry, entry, None))
            continue
        for disk in loose_disks(entry, here):
            loose[identity(disk)] = disk
    for disk in newest_of(loose, set(), set()):
        path = loose[disk]
        yield Found(str(path), path, loaders.RawLoader, path, named=False)


def _refuse_way_out(path: Path, **kwargs: object) -> None:
    problem = "a link that leads out of the evidence, not followed"
    raise FileError(problem, file=path, advice="name the file itself", kind=Kind.OUTSIDE)


def detected(path: Path) -> Any:
    """The loader that detects a path, raw disks apart; ``None`` if there is none.

    One that trips over a path does not take it: an empty folder is a StopIteration in dissect.target 3.25.
    """
    for loader in [*loaders.LOADERS, loaders.DirLoader]:
        try:
            if loader.detect(path):  # type: ignore[union-attr]
                return loader
        except Exception as e:
            log.debug("%s does not take %s: %s: %s", loader, path, type(e).__name__, e)
    return None


def loader_at(path: Path) -> Any:
    """The loader that dissect takes for a path.

    Raises:
        FileError: If there is none, or it is a FIFO, a socket or a device.
    """
    refuse_irregular(path)
    found = detected(path) or (loaders.RawLoader if is_regular(path) else None)
    if found is None:
        problem = "no loader opens this" if exists(path) else "no such file or folder"
        raise FileError(problem, file=path, expected="a .vmx, a descriptor, an extent or another target")
    return found


# Loose disks


def loose_disks(path: Path, within: Folder | None = None) -> Iterator[Path]:
    """The disks with a seSparse extent that a path is or holds, each by its descriptor where it has one.

    Args:
        path: A disk, or a folder.
        within: The folder that is looked through; without, it is the user who names the path.
    """
    if is_folder(path):
        here = Folder(path)
        for entry in sorted(path.iterdir()):
            if entry.suffix.lower() == ".vmdk" and is_regular(entry):
                if here.is_inside(entry):
                    yield from loose_disks(entry, here)
                else:
                    log.warning("%s: a link that leads out of the evidence, not followed", entry)
    elif path.suffix.lower() == ".vmdk" and is_regular(path) and _may_be_ours(path, within):
        yield descriptor_of(path, within) or path


def _may_be_ours(path: Path, within: Folder | None) -> bool:
    """Whether a disk has a seSparse extent, or cannot even be looked at: then opening it says so."""
    try:
        with path.open("rb") as fh:
            return is_ours(fh, path, within)
    except (OSError, SESparseError):
        return True


def newest_of(disks: dict[str, Path], named: Iterable[str], taken: set[str]) -> list[str]:
    """The disks that are no VM's and no older state of another one; those that were named themselves stay.

    Args:
        disks: By :func:`~dissect_sesparse.source.folder.identity`.
        named: Those that the user named.
        taken: Those of VMs.
    """
    kept, named = [], set(named)
    folders: dict[Path, Folder] = {}
    for name, path in disks.items():
        folder = folders.setdefault(path.parent, Folder(path.parent))
        above = {identity(newer) for newer in newer_links(path, folder)}
        if name in named or (name not in taken and not above & (taken | disks.keys())):
            kept.append(name)
    return kept
