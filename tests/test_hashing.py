"""Digests of sparse files: the same as of full ones, at the price of what they hold."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import oracle
import pytest
from disks import sparse, write_chain
from sesparse_builder import ExtentBuilder, write_flat

from dissect_sesparse import cli, open_chain
from dissect_sesparse.chain import hashing
from dissect_sesparse.chain.hashing import HASH_BLOCK, Holes, digests, sha256_of_blocks
from dissect_sesparse.chain.summary import link_digest
from dissect_sesparse.recovery.inputs import hashed, look_at
from dissect_sesparse.recovery.recover import recover
from dissect_sesparse.source.errors import FileError
from dissect_sesparse.source.file import EvidenceFile

if TYPE_CHECKING:
    pass

TIB = 2**31
"""Sectors of a TiB."""


def random_file(path: Path, rng: random.Random) -> bytes:
    """A file with data here and there, zeros that are no hole among them, at odd places; its bytes."""
    size = rng.choice((1, 511, HASH_BLOCK, HASH_BLOCK * 3, HASH_BLOCK * 5 + 1, HASH_BLOCK * 9 - 7))
    with path.open("wb") as fh:
        fh.truncate(size)
        for _ in range(rng.randrange(6)):
            start = rng.randrange(size)
            length = min(size - start, rng.choice((1, 4096, 70_000, HASH_BLOCK)))
            fh.seek(start)
            fh.write(bytes(length) if rng.random() < 0.3 else rng.randbytes(length))
    return path.read_bytes()


def list_of_blocks(data: bytes) -> str:
    """As the module says it, one block at a time."""
    lines = ""
    for start in range(0, len(data), HASH_BLOCK):
        block = data[start : start + HASH_BLOCK]
        if len(block) < HASH_BLOCK or any(block):
            lines += f"{start} {hashlib.sha256(block).hexdigest()}\n"
    return hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize("seed", range(12))
def test_same_as_of_a_full_file(tmp_path: Path, seed: int) -> None:
    """Whether the system tells where holes are, or not."""
    data = random_file(tmp_path / "file", random.Random(seed))
    for file in (EvidenceFile.open(tmp_path / "file"), EvidenceFile(io.BytesIO(data))):
        holes = Holes(file)
        told: list[int] = []
        assert digests(holes, ("md5", "sha256"), told.append) == (
            hashlib.md5(data).hexdigest(),
            hashlib.sha256(data).hexdigest(),
        )
        assert sum(told) == len(data)
        told.clear()
        assert sha256_of_blocks(holes, told.append) == list_of_blocks(data)
        assert sum(told) == len(data)
        file.close()


@pytest.mark.parametrize("seed", range(4))
def test_command_of_the_documentation(tmp_path: Path, seed: int) -> None:
    """An examiner gets the same with ordinary tools, as the reference writes them."""
    for name in ("split", "awk", "sha256sum", "bash"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    random_file(tmp_path / "FILE", random.Random(seed))
    text = (Path(__file__).parents[1] / "docs" / "reference.md").read_text()
    (command,) = (
        block.partition("```")[0] for block in text.split("```console\n") if block.startswith("$ split -b 1M")
    )
    command = "\n".join(line.removeprefix("$ ").removeprefix("> ") for line in command.splitlines())
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    file = EvidenceFile.open(tmp_path / "FILE")
    assert done.stdout.split()[0] == sha256_of_blocks(Holes(file))
    file.close()


def test_few_holes_and_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A digest of the file is one of all its bytes, or there is none."""
    path = tmp_path / "file"
    with path.open("wb") as fh:
        fh.write(b"data")
        fh.truncate(64 * HASH_BLOCK)
    few = hashed(look_at(path), None, lambda _: None)
    assert (few.sha256, few.sha256_blocks) == (hashlib.sha256(path.read_bytes()).hexdigest(), None)
    monkeypatch.setattr(hashing, "MAX_HOLES", HASH_BLOCK)
    many = hashed(look_at(path), None, lambda _: None)
    assert (many.sha256, many.sha256_blocks) == (None, list_of_blocks(path.read_bytes()))
    monkeypatch.setattr(hashing, "MAX_SHARE", 64 * HASH_BLOCK)  # it holds enough for so many
    assert hashed(look_at(path), None, lambda _: None) == few


class Work:
    """Counts the bytes that are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.read = 0
        read = EvidenceFile.read_some

        def counted(file: EvidenceFile, offset: int, length: int) -> bytes:
            data = read(file, offset, length)
            self.read += len(data)
            return data

        monkeypatch.setattr(EvidenceFile, "read_some", counted)


def huge(folder: Path, count: int) -> Path:
    """A disk of so many times 12 TiB over a base of as many extents, in which next to nothing was written."""
    bases: list[oracle.Piece] = []
    for number in range(count):
        path = folder / f"base-f{number}.vmdk"
        try:
            write_flat(path, 12 * TIB * 512, {TIB: b"far out"})
        except OSError as e:
            pytest.skip(f"no file of 12 TiB can be made here: {e}")
        bases.append(oracle.Flat(path, 12 * TIB))
    extent = ExtentBuilder(count * 12 * TIB)
    extent.allocate(5)
    extent.unmap(count * 12 * TIB // 8 - 7, b"old".ljust(4096, b"."))
    return write_chain(folder, [[sparse(folder / "vm-sesparse.vmdk", extent)], bases])


def test_recovery_of_the_largest_disk(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads what the files hold, and says which digests are none of a file. (No image of 60 TiB fits into ext4.)"""
    path, work = huge(folder, 1), Work(monkeypatch)
    for _ in range(2):  # written, then verified
        with open_chain(path) as chain:
            recovery = recover([chain], tmp_path / "out")
        assert recovery.complete
    assert work.read < 1 << 30
    inputs = {
        Path(file["path"]).name: file for file in json.loads((tmp_path / "out" / "report.json").read_text())["inputs"]
    }
    assert inputs["base-f0.vmdk"]["sha256"] is None
    assert len(inputs["base-f0.vmdk"]["sha256_blocks"]) == 64
    assert inputs["link0.vmdk"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert inputs["link0.vmdk"]["sha256_blocks"] is None
    with (folder / "base-f0.vmdk").open("r+b") as fh:  # one byte more, at the same size
        fh.seek(TIB * 512 * 11)
        fh.write(b"x")
    changed = hashed(look_at(folder / "base-f0.vmdk"), None, lambda _: None)
    assert changed.sha256_blocks != inputs["base-f0.vmdk"]["sha256_blocks"]


def test_report_on_the_largest_disk(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, work = huge(folder, 5), Work(monkeypatch)
    assert cli.main(["report", str(path), "-o", str(tmp_path / "report.html"), "--no-files"]) == 0
    assert work.read < 1 << 30
    assert "of its blocks, not of the file" in (tmp_path / "report.html").read_text()


def test_no_digest_of_a_link_that_is_mostly_holes(folder: Path) -> None:
    """Its record has none rather than one that takes days; where holes are few it has all three."""
    with open_chain(huge(folder, 1)) as chain:
        with pytest.raises(FileError, match="--hash-holes"):
            link_digest(chain.links[1])
