"""``view=residual``: the guest's view, with the old bytes where these are surely an unmapped grain's."""

from __future__ import annotations

import hashlib
import random
import zipfile
from io import BytesIO
from typing import TYPE_CHECKING

import make_vm
import pytest
from disks import sparse, write_chain
from dissect.target import container
from dissect.target.target import Target
from history import ZEROS, Recorded, random_history
from sesparse_builder import ExtentBuilder
from target_fixtures import NEWEST, example_vm  # noqa: F401

from dissect_sesparse import UnreadableError, open_chain
from dissect_sesparse.target.registration import register

if TYPE_CHECKING:
    from pathlib import Path

    from dissect_sesparse import Chain


def expected(recorded: Recorded, guest: Chain) -> dict[int, bytes | None]:
    """Each grain: the newest link that says anything about it answers, by its history."""
    old = {(grain.depth, grain.grain): grain for grain in recorded.old}
    view = {}
    for grain in range(guest.size // 4096):
        depth = next((depth for depth, link in enumerate(recorded.links) if grain in link.entries), None)
        mine = old.get((depth, grain)) if depth is not None else None
        try:
            seen = guest.read(grain * 4096, 4096)
        except UnreadableError:
            seen = None
        view[grain] = mine.data if mine is not None and mine.state == "present" else seen
    return view


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_random_histories(tmp_path: Path, seed: int) -> None:
    recorded = random_history(tmp_path / "vm", random.Random(2000 + seed), seed % 4 + 1)
    with open_chain(recorded.path) as guest, open_chain(recorded.path, view="residual") as residual:
        wanted = expected(recorded, guest)
        whole = residual.read(0, residual.size)
        assert {grain: whole[grain * 4096 : grain * 4096 + 4096] for grain in wanted} == wanted
        for grain in random.Random(seed).sample(sorted(wanted), 50):  # small reads go another way
            assert residual.read(grain * 4096 + 512, 700) == (wanted[grain] or ZEROS)[512:1212]
        stream = residual.open()
        stream.seek(4096 * 3 + 5)
        assert stream.read(9000) == whole[4096 * 3 + 5 :][:9000]
        assert whole != guest.read(0, guest.size), "there was something to show"


def test_keyword_variable_and_uri(example_vm: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Three ways to the same bytes, and the guest's view by default."""
    register()
    path = example_vm.parent / NEWEST
    with open_chain(path, view="residual") as chain:
        wanted = chain.read(0, chain.size)
    by_keyword = container.open(path, view="residual")
    assert by_keyword.read(by_keyword.size) == wanted
    (by_uri,) = Target.open(f"sesparse://{example_vm.as_posix()}?view=residual").disks
    by_uri.seek(0)
    assert by_uri.read(by_uri.size) == wanted
    default = container.open(path)
    assert default.read(default.size) != wanted
    monkeypatch.setenv("DISSECT_SESPARSE_VIEW", "residual")
    by_variable = container.open(path)
    assert by_variable.read(by_variable.size) == wanted
    keyword_wins = container.open(path, view="guest")
    default.seek(0)
    assert keyword_wins.read(keyword_wins.size) == default.read(default.size)


@pytest.mark.slow
def test_deleted_files_are_back(example_vm: Path) -> None:  # noqa: F811
    """The bytes of the files that the guest wrote and deleted in one link, byte for byte."""
    found = {}
    for name, deleted in (
        (NEWEST, ("Users/admin/AppData/keylog.txt", "Users/admin/AppData/staging.zip")),
        ("web01-000001.vmdk", ("Windows/Temp/kb5035849.tmp",)),
    ):
        with (
            open_chain(example_vm.parent / name) as guest,
            open_chain(example_vm.parent / name, view="residual") as old,
        ):
            seen, shown = guest.read(0, guest.size), old.read(0, old.size)
        for path in deleted:
            found[path] = is_in(shown, make_vm.DELETED[path]), is_in(seen, make_vm.DELETED[path])
    assert found == dict.fromkeys(found, (True, False))
    assert len(found) == 3


def is_in(disk: bytes, sha256: str) -> bool:
    """Whether a file with this digest starts at a cluster: tried at each start of a known kind, and with each end."""
    for start in range(0, len(disk), 4096):
        if disk[start : start + 4096].strip(b"\x00") and any(
            hashlib.sha256(candidate).hexdigest() == sha256 for candidate in candidates(disk, start)
        ):
            return True
    return False


def candidates(disk: bytes, start: int) -> list[bytes]:
    """What a file that starts here could be: up to the next zeros, or up to the end of a ZIP's directory."""
    if disk[start : start + 4] == b"PK\x03\x04":
        end = disk.find(b"PK\x05\x06", start)
        data = disk[start : end + 22]
        try:
            return [data] if zipfile.ZipFile(BytesIO(data)).testzip() is None else []
        except zipfile.BadZipFile:
            return []
    if start and disk[start - 1] != 0 and disk[start - 4096 : start].strip(b"\x00"):
        return []  # in the middle of something
    end = disk.find(b"\x00", start)
    return [disk[start:end], disk[start : start + 65536]]


def test_bare_entry_whose_place_is_cut_off(folder: Path) -> None:
    """It had place 0, of which the file has no more than a sector: the guest's zeros, and no error."""
    extent = ExtentBuilder(64)
    extent.unmap(3, b"old".ljust(4096, b"."), 0)
    path = write_chain(folder, [[sparse(folder / "vm-sesparse.vmdk", extent)]])
    extent.write(folder / "vm-sesparse.vmdk", truncate_to=extent.grain_offset(0) + 512)
    with open_chain(path, view="residual") as chain:
        assert chain.read(0, chain.size) == bytes(64 * 512)
        assert chain.read(3 * 4096, 512) == bytes(512)
