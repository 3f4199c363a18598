"""The subvolumes of btrfs: which a folder really holds, which of them the running guest has, and what else has their files.

- A snapshot of a subvolume does not have the subvolumes below that one. Where they were it has entries that still name them,
  and Linux shows an empty folder there: only the entry that the root tree refers back to counts (Linux, fs/btrfs/inode.c,
  ``fixup_tree_root_location`` and ``new_simple_dir``). dissect follows all of them, so that files seem to be where they never
  were, and one subvolume in several places (docs/upstream.md).
- Numbers of subvolumes are used again, and snapshots have the inodes of what they were taken of: a subvolume is the same by
  its number and UUID.
- A snapshot that is deleted takes no file along that another subvolume still has unchanged: as with a hard link that is
  removed, the file is not gone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dissect.util.hash import crc32c

try:
    from dissect.btrfs.c_btrfs import c_btrfs
except ImportError:  # then no btrfs is opened, which ``volumes`` says
    c_btrfs: Any = None

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.files.deleted import DeletedFile

MAX_NAMES = 255
"""Folders above a subvolume."""
_DIR_ITEM_HEAD = 30
"""Bytes of an item of a folder before its name: where it leads, transaction, lengths, type."""
Identity = tuple[int, bytes]
"""Number and UUID of a subvolume."""


def subvolume_of(entry: Any) -> Identity | None:
    """The subvolume of a file or folder; ``None`` on other file systems.

    Args:
        entry: As dissect has it.
    """
    subvolume = getattr(getattr(entry, "entry", None), "subvolume", None)
    return (subvolume.objectid, subvolume.uuid.bytes) if subvolume is not None else None


def entries(folder: Any) -> Iterator[Any]:
    """What is in a folder: of subvolumes those that are really there.

    Args:
        folder: As dissect has it.

    Raises:
        Exception: Whatever dissect.btrfs trips over.
    """
    node = folder.entry
    for _, data in node.subvolume.tree.cursor().iter(node.inum, c_btrfs.BTRFS_DIR_INDEX_KEY, 2, ignore_offset=True):
        if (entry := _entry(folder, c_btrfs.btrfs_dir_item(data))) is not None:
            yield entry


def entry_named(folder: Any, name: str) -> Any:
    """What has a name in a folder. dissect looks a name up by its hash alone, and gives the first that has the same.

    Args:
        folder: As dissect has it.
        name: The name.

    Raises:
        KeyError: If there is none.
        Exception: Whatever dissect.btrfs trips over.
    """
    node, raw = folder.entry, name.encode(errors="surrogateescape")
    key = (crc32c.update(1, raw) ^ 0xFFFFFFFF) & 0xFFFFFFFF  # Linux, fs/btrfs/ctree.h, btrfs_name_hash
    _, data = node.subvolume.tree.find(node.inum, c_btrfs.BTRFS_DIR_ITEM_KEY, key)
    while data:
        item = c_btrfs.btrfs_dir_item(data)
        if item.name == raw and (entry := _entry(folder, item)) is not None:
            return entry
        data = data[_DIR_ITEM_HEAD + item.name_len + item.data_len :]
    raise KeyError(name)


def _entry(folder: Any, item: Any) -> Any:
    """What an item of a folder leads to; ``None`` for what a snapshot has in the place of a subvolume."""
    node, number = folder.entry, item.location.objectid
    if item.location.type == c_btrfs.BTRFS_ROOT_ITEM_KEY:
        if not _holds(node, number, item.name):
            return None
        inner = node.btrfs.open_subvolume(number, node).root
    elif item.location.type == c_btrfs.BTRFS_INODE_ITEM_KEY:
        inner = node.subvolume.inode(number, item.type, node)
    else:
        raise ValueError(f"an entry leads to an item of type {item.location.type}")
    return type(folder)(folder.fs, f"{folder.path.rstrip('/')}/{item.name.decode(errors='surrogateescape')}", inner)


def _holds(folder: Any, number: int, name: bytes) -> bool:
    """Whether a subvolume is where an entry of a folder says: the root tree names folder and name."""
    try:
        _, data = folder.btrfs._root_tree.find(number, c_btrfs.BTRFS_ROOT_BACKREF_KEY, folder.subvolume.objectid)
    except KeyError:
        return False
    reference = c_btrfs.btrfs_root_ref(data)
    return (reference.dirid, reference.name) == (folder.inum, name)


def path_of_subvolume(subvolume: Any) -> str:
    """Where below the top of its file system a subvolume is; empty for the topmost. dissect climbs without an end.

    Args:
        subvolume: As dissect has it.

    Raises:
        ValueError: If it lies too deep, or in itself.
        Exception: Whatever dissect.btrfs trips over.
    """
    btrfs, number, names = subvolume.btrfs, subvolume.objectid, []
    while number != c_btrfs.BTRFS_FS_TREE_OBJECTID:
        item, data = btrfs._root_tree.find(number, c_btrfs.BTRFS_ROOT_BACKREF_KEY)
        reference, number = c_btrfs.btrfs_root_ref(data), item.key.offset
        names.append(reference.name)
        folder, tree = reference.dirid, btrfs.open_subvolume(number).tree
        while folder != c_btrfs.BTRFS_FIRST_FREE_OBJECTID:
            item, data = tree.find(folder, c_btrfs.BTRFS_INODE_REF_KEY)
            folder = item.key.offset
            names.append(c_btrfs.btrfs_inode_ref(data).name)
            if len(names) > MAX_NAMES:
                raise ValueError(f"a subvolume that is more than {MAX_NAMES} folders deep")
        if len(names) > MAX_NAMES:
            raise ValueError(f"a subvolume that is more than {MAX_NAMES} folders deep")
    return "/".join(name.decode(errors="surrogateescape") for name in reversed(names))


class LiveSubvolumes:
    """Which subvolumes of btrfs the running guest has, and what is known of the files of those that it has no more.

    On other file systems there is nothing of all that.
    """

    def __init__(self) -> None:
        self._live: set[Identity | None] = {None}
        self._versions: set[int] = set()

    def add(self, subvolumes: set[Identity]) -> None:
        """Take in subvolumes of the running guest."""
        self._live |= subvolumes

    def keep(self, entry: Any, info: Any) -> None:
        """Take in a file that the running guest has, or that is listed as deleted.

        Args:
            entry: As dissect has it.
            info: What stat gives.
        """
        if subvolume_of(entry) is not None:
            self._versions.add(_version(entry, info))

    def lacks(self, entry: Any) -> bool:
        """Whether the running guest has the subvolume of a file or folder no more."""
        return subvolume_of(entry) not in self._live

    def lacks_top(self, folder: Any) -> bool:
        """Whether a folder is the topmost one of a subvolume that the running guest has no more."""
        return self.lacks(folder) and folder.entry.inum == c_btrfs.BTRFS_FIRST_FREE_OBJECTID

    def keeps(self, entry: Any, info: Any) -> bool:
        """Whether a file of a subvolume that is gone was taken in as it is here, of whatever subvolume: nothing of it was changed."""
        return self.lacks(entry) and _version(entry, info) in self._versions

    def named(self, file: DeletedFile, entry: Any) -> DeletedFile:
        """A deleted file, with what names it: if the subvolume that has it there was deleted, that is said."""
        if not self.lacks(entry):
            return file
        basis = f"{file.naming.basis}; the subvolume that has it there was deleted"
        return replace(file, naming=file.naming._replace(basis=basis))


def _version(entry: Any, info: Any) -> int:
    """What a file has the same in all subvolumes in which nothing of it was changed. ``ctime`` cannot be set back."""
    born = entry.entry.inode.generation, info.st_birthtime_ns
    return hash((info.st_ino, born, info.st_size, info.st_mtime_ns, info.st_ctime_ns))
