"""Reads without a file descriptor of the system, and by several threads."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import oracle
import pytest
from disks import joined, random_chain, same, write_chain

from dissect_sesparse import open_chain

if TYPE_CHECKING:
    from pathlib import Path


class Counted:
    """A file object without a descriptor of the system, which counts its reads."""

    def __init__(self, path: Path):
        self.fh = path.open("rb")
        self.name = "counted"
        self.reads = 0
        self.largest = 0

    def seek(self, *where: int) -> int:
        return self.fh.seek(*where)

    def tell(self) -> int:
        return self.fh.tell()

    def readinto(self, buffer: bytearray) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    closed = False

    def read(self, length: int) -> bytes:
        self.reads += 1
        self.largest = max(self.largest, length)
        return self.fh.read(length)


def inside(newest: Path) -> tuple[object, dict[str, Counted]]:
    """The chain's folder as a file system of dissect's, and the files in it."""
    from dissect.target.filesystem import VirtualFilesystem

    fs = VirtualFilesystem()
    files = {path.name: Counted(path) for path in newest.parent.iterdir() if path.is_file()}
    for name, file in files.items():
        fs.map_file_fh(name, file)
    return fs.path(f"/{newest.name}"), files


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 3, 8])
@pytest.mark.parametrize("longest", [1, 3, 40])
def test_files_without_a_descriptor_read_alike(folder: Path, depth: int, longest: int) -> None:
    rng = random.Random(depth * 100 + longest)
    links = random_chain(folder, rng, depth, 20000)
    expected = joined(oracle.disk(links))
    path, files = inside(write_chain(folder, links))
    with open_chain(path) as chain:
        same(chain.read(0, chain.size), expected)
        for _ in range(50):
            start = rng.randrange(len(expected))
            end = min(len(expected), start + rng.choice([1, 512, 4096, 70000, 1 << 20]))
            same(chain.read(start, end - start), expected[start:end])
    assert max(file.largest for file in files.values()) <= 16 << 20, "a read is never larger than a window"


def test_pieces_close_together_are_read_at_once(folder: Path) -> None:
    """A thousand grains, shuffled within four megabytes: a read for a dozen, none much larger than what is wanted."""
    from sesparse_builder import ExtentBuilder, descriptor, grain_data

    extent = ExtentBuilder(8000)
    places = list(range(1000))
    random.Random(1).shuffle(places)
    for grain, place in enumerate(places):
        extent.allocate(grain, grain_data("d", grain), place)
    extent.write(folder / "link0-sesparse.vmdk")
    text = descriptor([(8000, "SESPARSE", "link0-sesparse.vmdk")], cid="1", parent_cid="ffffffff")
    (folder / "link0.vmdk").write_text(text, encoding="utf-8")
    path, files = inside(folder / "link0.vmdk")
    with open_chain(path) as chain:
        before = files["link0-sesparse.vmdk"].reads
        data = chain.read(0, 1000 * 4096)
        assert files["link0-sesparse.vmdk"].reads - before < 100
    same(data, b"".join(grain_data("d", grain) for grain in range(1000)))


@pytest.mark.slow
def test_threads_share_a_chain(folder: Path) -> None:
    """Two streams of one chain, read by two threads at the same time, each give the disk's bytes."""
    links = random_chain(folder, random.Random(5), 4, 60000)
    expected = joined(oracle.disk(links))
    wrong: list[int] = []
    with open_chain(write_chain(folder, links)) as chain:

        def read(seed: int) -> None:
            rng, stream = random.Random(seed), chain.open()
            for _ in range(300):
                start = rng.randrange(len(expected))
                stream.seek(start)
                if stream.read(65536) != expected[start : start + 65536]:
                    wrong.append(start)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
