"""One file of evidence: exactly the bytes asked for, or an error that says why not."""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING

import pytest

from dissect_sesparse.source.errors import FileError, SESparseError, UnreadableError
from dissect_sesparse.source.file import EvidenceFile, is_local

if TYPE_CHECKING:
    from pathlib import Path

DATA = bytes(range(256)) * 40


class Stingy(io.BytesIO):
    """Gives at most 100 bytes a read, as a pipe or a network file system may."""

    def read(self, n: int | None = -1) -> bytes:
        return super().read(min(100, n if n is not None and n >= 0 else 100))


class Shrunk(io.BytesIO):
    """Says it is larger than it is."""

    def seek(self, pos: int, whence: int = 0) -> int:
        return 2 * len(DATA) if whence == io.SEEK_END else super().seek(pos, whence)


class Broken(io.BytesIO):
    """Raises whatever a file system inside evidence may raise."""

    def __init__(self, data: bytes, error: Exception):
        super().__init__(data)
        self.error = error

    def read(self, n: int | None = -1) -> bytes:
        raise self.error


@pytest.fixture(params=["path", "handle", "bytes", "stingy"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> EvidenceFile:
    if request.param == "bytes":
        return EvidenceFile(io.BytesIO(DATA))
    if request.param == "stingy":
        return EvidenceFile(Stingy(DATA))
    path = tmp_path / "evidence.vmdk"
    path.write_bytes(DATA)
    if request.param == "path":
        opened = EvidenceFile.open(path)
    else:
        opened = EvidenceFile(path.open("rb"), path, owned=True)
    request.addfinalizer(opened.close)
    return opened


def test_exact_reads(file: EvidenceFile) -> None:
    assert file.size == len(DATA)
    for offset, length in ((0, 0), (0, 1), (0, 10240), (10239, 1), (10240, 0), (255, 513), (4096, 4096)):
        assert file.read(offset, length) == DATA[offset : offset + length]


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 10241), (10239, 2), (10240, 1), (20000, 1), (1 << 62, 1), (1 << 70, 4)]
)
def test_a_short_read_raises(file: EvidenceFile, offset: int, length: int) -> None:
    with pytest.raises(UnreadableError) as caught:
        file.read(offset, length)
    assert caught.value.source_offset == offset
    assert str(file.label) in str(caught.value)
    assert f"{offset:#x}" in str(caught.value)
    assert "0x2800" in str(caught.value)


@pytest.mark.parametrize(("offset", "length"), [(0, 20000), (10000, 1000), (10240, 5), (99999, 5), (1 << 70, 5)])
def test_read_some_stops_at_the_end(file: EvidenceFile, offset: int, length: int) -> None:
    assert file.read_some(offset, length) == DATA[offset : offset + length]


def test_file_that_is_shorter_than_it_says() -> None:
    file = EvidenceFile(Shrunk(DATA))
    assert file.read_some(10000, 1000) == DATA[10000:]
    with pytest.raises(UnreadableError):
        file.read(10000, 1000)


@pytest.mark.parametrize("error", [OSError(5, "I/O error"), EOFError(), ValueError("x"), IndexError(), KeyError("k")])
def test_whatever_a_read_raises(error: Exception) -> None:
    file = EvidenceFile(Broken(DATA, error))
    for read in (file.read, file.read_some):
        with pytest.raises(UnreadableError) as caught:
            read(512, 100)
        assert caught.value.source_offset == 512
        assert caught.value.__cause__ is error


def test_errors_are_no_end_of_file() -> None:
    """Code that reads disks takes an OSError or EOFError for the end, and goes on."""
    assert not issubclass(SESparseError, (OSError, EOFError))


def test_file_object_without_an_end() -> None:
    class Pipe(io.RawIOBase):
        name = "pipe"

    with pytest.raises(FileError, match="pipe"):
        EvidenceFile(Pipe())  # type: ignore[arg-type]


def test_names(tmp_path: Path) -> None:
    path = tmp_path / "a.vmdk"
    path.write_bytes(b"x")
    assert EvidenceFile(io.BytesIO(b"")).label == "<file object>"
    with path.open("rb") as fh:
        assert EvidenceFile(fh).label == str(path)
        assert EvidenceFile(fh, path).name == "a.vmdk"
        assert EvidenceFile(fh, path).label == path


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file") as caught:
        EvidenceFile.open(tmp_path / "gone.vmdk")
    assert "gone.vmdk" in str(caught.value)


def test_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="not a regular file"):
        EvidenceFile.open(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_fifo_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f.vmdk")
    with pytest.raises(FileError, match="not a regular file"):
        EvidenceFile.open(tmp_path / "f.vmdk")


def test_only_what_was_opened_here_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.vmdk"
    path.write_bytes(DATA)
    with path.open("rb") as fh:
        EvidenceFile(fh, path).close()
        assert not fh.closed
    file = EvidenceFile.open(path)
    file.close()
    assert file.fh.closed
    with pytest.raises(UnreadableError):
        file.read(0, 1)


def test_read_only(tmp_path: Path) -> None:
    path = tmp_path / "a.vmdk"
    path.write_bytes(DATA)
    file = EvidenceFile.open(path)
    assert not file.fh.writable()
    file.close()


def test_local(tmp_path: Path) -> None:
    assert is_local(tmp_path)


def test_path_inside_evidence_is_not_local() -> None:
    filesystem = pytest.importorskip("dissect.target.filesystem")
    fs = filesystem.VirtualFilesystem()
    fs.map_file_fh("/vm/a.vmdk", io.BytesIO(DATA))
    path = fs.path("/vm/a.vmdk")
    assert not is_local(path)
    file = EvidenceFile.open(path)
    assert file.fd is None
    assert file.read(1000, 100) == DATA[1000:1100]
    with pytest.raises(FileError, match="no such file"):
        EvidenceFile.open(fs.path("/vm/b.vmdk"))


@pytest.mark.parametrize("kind", ["path", "bytes"])
def test_threads_share_a_file(kind: str, tmp_path: Path) -> None:
    """A file object has one position; two reads must not get each other's."""
    path = tmp_path / "a.vmdk"
    path.write_bytes(DATA)
    file = EvidenceFile.open(path) if kind == "path" else EvidenceFile(Stingy(DATA))
    wrong = []

    def work(first: int) -> None:
        for i in range(400):
            offset = (first * 1000 + i * 37) % 10000
            if file.read(offset, 240) != DATA[offset : offset + 240]:
                wrong.append(offset)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file.close()
    assert not wrong
