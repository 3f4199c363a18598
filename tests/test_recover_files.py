"""``dissect-sesparse recover --files``: deleted files under their paths, and their lines in the manifest."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from pathlib import Path

import file_states
import make_vm
import pytest
from file_states import content
from hypothesis import given
from hypothesis import strategies as st
from ntfs_state import COMPLETE, LIKELY, PARTIAL
from target_fixtures import example_vm, snapshot_of  # noqa: F401

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.cli import main
from dissect_sesparse.files.deleted import DeletedFile, Piece
from dissect_sesparse.files.file_systems import deleted_files
from dissect_sesparse.files.story import Naming
from dissect_sesparse.recovery import files as recover_files
from dissect_sesparse.recovery.recover import Source, recover
from dissect_sesparse.recovery.safe_name import SafePaths, name_key
from dissect_sesparse.recovery.sparse_file import PARTIAL as UNFINISHED
from dissect_sesparse.recovery.sparse_file import RecoverError

MFT = Naming("mft", "likely", "its record")


def run(path: Path, out: Path) -> int:
    return main(["recover", str(path), "-o", str(out), "--files"])


def named(out: Path) -> dict[str, dict]:
    """The lines of files by their path; of one that was changed since a snapshot what that has is ``PATH@``."""
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {
        f"{line['path']}@" * (line["named_by"] == "snapshot") or line["path"]: line for line in lines if "path" in line
    }
    return {name[:-1] if name.endswith("@") and name[:-1] not in found else name: line for name, line in found.items()}


def test_example(example_vm: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:  # noqa: F811
    before = snapshot_of(example_vm.parent)
    assert run(example_vm, tmp_path / "out") == 0
    likely = len(make_vm.LIKELY)
    assert f"deleted files: {len(make_vm.DELETED) - likely} complete, {likely} likely" in capsys.readouterr().out
    lines = named(tmp_path / "out")
    assert set(lines) == set(make_vm.DELETED)
    for path, line in lines.items():
        data = (tmp_path / "out" / line["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == line["digest"]["sha256"] == make_vm.DELETED[path]
        state = "likely" if path in make_vm.LIKELY else "complete"
        assert (line["state"], line["size"], line["recovered"]) == (state, len(data), len(data))
        assert line["file"].endswith(path)
        assert line["file"].startswith("likely/" if state == "likely" else "files/")
        assert line["likely_ranges"] == ([[0, len(data)]] if state == "likely" else None)
        assert line["basis"]
    assert snapshot_of(example_vm.parent) == before
    written = snapshot_of(tmp_path / "out")
    assert run(example_vm, tmp_path / "out") == 0
    assert "verified, all was there" in capsys.readouterr().out
    assert snapshot_of(tmp_path / "out") == written


def test_all_of_a_volume(tmp_path: Path) -> None:
    """The real driver's volume: the same files as ``sesparse.files`` tells; partial ones say which ranges they have."""
    path = file_states.build("ntfs", tmp_path / "vm").write()
    assert run(path, tmp_path / "out") == 0
    lines = named(tmp_path / "out")
    assert set(lines) == {*COMPLETE, *LIKELY, *PARTIAL}
    for name, (_, _, data) in (COMPLETE | LIKELY).items():
        assert (tmp_path / "out" / lines[name]["file"]).read_bytes() == data
        assert lines[name]["file"].startswith("likely/" if name in LIKELY else "files/")
    assert lines["changed.bin"]["ranges"], "what nobody wrote to is proven"
    for name, (_, size) in PARTIAL.items():
        expected, whole = bytearray(size), content(name, size)
        ranges = lines[name]["likely_ranges"]
        for offset, length in ranges:
            expected[offset : offset + length] = whole[offset : offset + length]
        assert (tmp_path / "out" / lines[name]["file"]).read_bytes() == bytes(expected)
        assert (lines[name]["ranges"], lines[name]["recovered"]) == ([], 0), "nothing of it is proven"
        assert not {offset for offset, _ in ranges} & {offset + length for offset, length in ranges}, (
            "as long as can be"
        )
    found = [p for folder in ("files", "likely") for p in (tmp_path / "out" / folder).rglob("*") if p.is_file()]
    assert {p.relative_to(tmp_path / "out").as_posix() for p in found} == {line["file"] for line in lines.values()}
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    told = report["disks"][0]["deleted_files"]
    assert told["complete"]["files"] == len(COMPLETE)
    assert told["likely"]["files"] == len(LIKELY)
    assert told["partial"] == {"files": len(PARTIAL), "bytes": 0}
    assert told["warnings"] == []


def test_without_it_nothing_is_named(tmp_path: Path) -> None:
    path = file_states.build("ntfs", tmp_path / "vm").write()
    assert main(["recover", str(path), "-o", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out" / "files").exists()
    assert named(tmp_path / "out") == {}


def sources(path: Path) -> list[Source]:
    chain = open_chain(path)
    return [Source(chain, files=lambda warn: deleted_files(chain, warn))]


@pytest.mark.slow
def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken off in the middle of a file: the next run goes on, and ends as if nothing had been."""
    path = file_states.build("ntfs", tmp_path / "vm").write()
    recover(sources(path), tmp_path / "whole")
    real, count = recover_files.RecoveredFile.put, 0

    def breaks(self: object, piece: Piece) -> None:
        nonlocal count
        count += piece.proven or not self._only_proven  # type: ignore[attr-defined]  # else it is refused, and comes again
        if count in (5, 9):
            real(self, piece._replace(data=piece.data[: len(piece.data) // 2]))  # type: ignore[arg-type]
            raise KeyboardInterrupt
        real(self, piece)  # type: ignore[arg-type]

    monkeypatch.setattr(recover_files.RecoveredFile, "put", breaks)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            recover(sources(path), tmp_path / "out")
        count += 1
    again = recover(sources(path), tmp_path / "out")
    assert again.complete
    whole, out = (snapshot_of(tmp_path / name) for name in ("whole", "out"))
    assert {name: each[2] for name, each in whole.items() if not name.endswith("recover.json")}.keys() == {
        name for name in out if not name.endswith("recover.json")
    }
    for name in whole:
        if name not in ("recover.json", "report.json"):
            assert whole[name][2] == out[name][2], name


@pytest.mark.slow
@pytest.mark.parametrize("change", ["flip", "fill", "remove"])
def test_changed_files_are_told(tmp_path: Path, change: str) -> None:
    path = file_states.build("ntfs", tmp_path / "vm").write()
    recover(sources(path), tmp_path / "out")
    line = named(tmp_path / "out")["victim.bin"]
    file = tmp_path / "out" / line["file"]
    if change == "remove":
        before = file.read_bytes()
        file.unlink()
        assert not recover(sources(path), tmp_path / "out").verified
        assert file.read_bytes() == before
        return
    offset = line["likely_ranges"][0][0] - (0 if change == "flip" else 10)  # or in a hole
    with file.open("r+b") as fh:
        fh.seek(offset)
        fh.write(b"\x5a")
    with pytest.raises(RecoverError, match=r"victim\.bin.*does not hold what the evidence gives"):
        recover(sources(path), tmp_path / "out")


def test_symbolic_link_in_the_folder(tmp_path: Path, symlink: object) -> None:
    path = file_states.build("ntfs", tmp_path / "vm").write()
    (tmp_path / "elsewhere").mkdir()
    monkey = sources(path)
    recover([Source(monkey[0].chain, files=lambda warn: [])], tmp_path / "out")
    (tmp_path / "out" / "manifest.jsonl").unlink()
    (tmp_path / "out" / "report.json").unlink()
    symlink(tmp_path / "out" / "files", tmp_path / "elsewhere")  # type: ignore[operator]
    with pytest.raises(RecoverError, match="symbolic link"):
        recover(monkey, tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


# Names


RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
HOSTILE = [
    "../../etc/passwd", "/etc/passwd", "..", ".", "", "a/../../b", "C:\\Windows\\x", "con", "NUL.txt", "a/aux/b", "x.", "x ",
    "a:stream", "-rf", "\x00", "\x1b[31m", "a\nb", "\u202egpj.exe", "A/b", "a/B", "a", "a/b/c", "a" * 300, "d/" * 300 + "e",
    "é", "e\u0301", "~", "a~2", "<unknown>", "|", "\ud800", "!y.partial", "_y", "_y.partial/z", "_Y.PARTIAL", "y.part\u0131al",
]  # fmt: skip


def is_safe(parts: tuple[str, ...]) -> bool:
    return all(
        part and part not in (".", "..") and not part.startswith("-") and not part.endswith((".", " "))
        and not RESERVED.fullmatch(part) and not re.search(r'[<>:"/\\|?*\x00-\x1f\x7f\u202a-\u202e]', part)
        and len(part.encode()) < 100
        for part in parts
    )  # fmt: skip


def test_hostile_paths() -> None:
    paths = SafePaths()
    made = [paths.of("disk", "volume", *path.split("/")) for path in HOSTILE * 3]
    assert all(is_safe(parts) for parts in made)
    assert all(len("/".join(parts)) < 300 for parts in made)
    assert one_to_one(made)


def one_to_one(made: list[tuple[str, ...]]) -> bool:
    """Whether files, what they are called until they are whole, and their folders are all apart, as any system compares."""
    for key in FOLDING.values():
        names = ["/".join(map(key, parts)) for parts in made]
        partials = ["/".join(map(key, (*parts[:-1], parts[-1] + UNFINISHED))) for parts in made]
        folders = {"/".join(map(key, parts[:n])) for parts in made for n in range(1, len(parts))}
        if len({*names, *partials, *folders}) != len(names) + len(partials) + len(folders):
            return False
    return True


FOLDING = {
    "ext4": str,
    "ext4 that ignores case": lambda name: unicodedata.normalize("NFD", name.casefold()),
    "APFS": lambda name: unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold()),
    "NTFS": lambda name: "".join(char.upper() if len(char.upper()) == 1 else char for char in name).rstrip(". "),
    "lower": str.lower,
    "compatible": lambda name: unicodedata.normalize("NFKC", name).upper(),
}
"""How systems compare names, as far as Python can do the same."""
WORDS = ["!", "_", "y", "Y", ".partial", ".PARTIAL", ".part\u0131al", "~", "2", "~2", "/", ".", " ", "é", "e\u0301", "\u212a", "k",
         "ß", "ss", "\ufb01", "fi", "\u0130", "i", "\u3164", "con", "aux", "files", "likely", "too~long", "too_long", "x" * 70,
         "\U00020000", "-", "\\", ":", "\x00", "½"]  # fmt: skip


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map("".join) | st.text(max_size=12), max_size=30))
def test_what_is_written_is_one_to_one(names: list[str]) -> None:
    """Whatever guests call their files: each has its own name, and none is one of ours."""
    paths = SafePaths()
    made = [paths.of("d", "v", *name.split("/")) for name in names]
    assert all(is_safe(parts) for parts in made)
    assert one_to_one(made)
    assert not any(name_key(part).endswith(UNFINISHED) for parts in made for part in parts)
    folders: dict[tuple[str, ...], set[str]] = {}
    for name, parts in zip(names, made):
        if "too~long" not in parts:
            folders.setdefault(parts[:-1], set()).add(name.rpartition("/")[0])
    assert all(len(each) == 1 for each in folders.values()), "no two folders become one"


def test_hostile_names_are_inert(tmp_path: Path) -> None:
    """Written under the folder and nowhere else; the manifest has the real name."""

    def deleted(name: str) -> DeletedFile:
        fields = {"volume": "..", "mtime": None, "btime": None, "inode": 1, "filesystem": "ntfs", "naming": MFT}
        pieces = [Piece(0, b"data", True)]
        return DeletedFile(link=chain.links[0], path=name, size=4, proof="", pieces=lambda: iter(pieces), **fields)  # type: ignore[arg-type]

    chain = open_chain(file_states.build("ntfs", tmp_path / "vm").write())
    out = tmp_path / "deep" / "out"
    names = [name for name in HOSTILE if name != "\ud800"]
    recover([Source(chain, files=lambda warn: map(deleted, names))], out)
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    files = [line for line in lines if "path" in line]
    assert [line["path"] for line in files] == names
    for line in files:
        written = out / line["file"]
        assert written.read_bytes() == b"data"
        assert written.resolve().is_relative_to((out / "files").resolve())
    assert {p.name for p in tmp_path.iterdir()} == {"vm", "deep"}
    assert {p.name for p in (tmp_path / "deep").iterdir()} == {"out"}
    assert len([p for p in (out / "files").rglob("*") if p.is_file()]) == len(names)


def test_nothing_left_and_very_many_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recover_files, "MAX_RANGES", 3)
    chain = open_chain(file_states.build("ntfs", tmp_path / "vm").write())
    fields = {"volume": "v", "mtime": None, "btime": None, "inode": 1, "filesystem": "ntfs", "naming": MFT}

    def deleted(warn: object) -> list[DeletedFile]:
        make = lambda path, size, pieces: DeletedFile(  # noqa: E731
            link=chain.links[0], path=path, size=size, proof="", pieces=lambda: iter(pieces), **fields
        )
        return [
            make("nothing", 1 << 62, []),
            make("holes", 100, [Piece(at, b"x", True) for at in range(0, 100, 10)]),
            make("empty", 0, []),
        ]

    report = recover([Source(chain, files=deleted)], tmp_path / "out").report["disks"][0]["deleted_files"]
    lines = named(tmp_path / "out")
    assert lines["nothing"]["file"] is None
    assert report["none"] == {"files": 1, "bytes": 0}
    assert lines["holes"]["ranges"] == [[0, 1], [10, 1], [20, 1]]
    assert lines["holes"]["more_ranges"] == 7
    assert (tmp_path / "out" / lines["holes"]["file"]).read_bytes() == (b"x" + bytes(9)) * 10
    assert (tmp_path / "out" / lines["empty"]["file"]).read_bytes() == b""


# Versions


def version_lines(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if "version" in line]


def with_versions(path: Path, out: Path) -> int:
    return main(["recover", str(path), "-o", str(out), "--files", "--all-versions"])


@pytest.mark.slow
def test_all_versions(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Added to the deleted files: each content of a changed file, the oldest first, and verified by the next run."""
    builder = file_states.build("ntfs", tmp_path / "vm")
    path = builder.write()
    keep = content("keep.txt", 20_000)
    with open_chain(path) as chain:
        at = chain.read(0, chain.size).index(keep)
    grain = at // 4096 + 1
    data, offset = bytearray(keep), (grain) * 4096 - at
    data[offset : offset + 4096] = content("patched", 4096)
    builder.add_delta().allocate(grain, content("patched", 4096))
    path = builder.write()
    assert run(path, tmp_path / "out") == 0
    files = named(tmp_path / "out")
    assert with_versions(path, tmp_path / "out") == 0
    lines = version_lines(tmp_path / "out")
    mine = [line for line in lines if line["path"] == "keep.txt"]
    assert [(line["version"], line["current"], line["first"]) for line in mine] == [
        (1, False, "vm.vmdk"), (2, True, "vm-000003.vmdk"),
    ]  # fmt: skip
    assert [(tmp_path / "out" / line["file"]).read_bytes() for line in mine] == [keep, bytes(data)]
    for line in lines:
        if line["file"] is not None:
            written = (tmp_path / "out" / line["file"]).read_bytes()
            assert hashlib.sha256(written).hexdigest() == line["digest"]["sha256"] or line["state"] == "partial"
            assert re.fullmatch(r"versions/.*/~\d+(~likely)?(\.\w+)?", line["file"])
            assert ("~likely" in line["file"]) == bool(line["likely_ranges"])
    assert {name: line for name, line in named(tmp_path / "out").items() if name in files and "version" not in line}
    assert "contents of changed files: 2 complete" in capsys.readouterr().out
    before = {name: each[2] for name, each in snapshot_of(tmp_path / "out").items()}
    assert with_versions(path, tmp_path / "out") == 0
    assert "verified, all was there" in capsys.readouterr().out
    assert {name: each[2] for name, each in snapshot_of(tmp_path / "out").items()} == before
    assert run(path, tmp_path / "out") == 1
    assert "begun with --all-versions (give it again, or use another folder)" in capsys.readouterr().err


@given(st.lists(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=3), min_size=1, max_size=6))
def test_no_name_of_a_guest_becomes_that_of_a_version(paths: list[list[str]]) -> None:
    """Whatever a folder of the guest is called, it is not in the way of the contents of a file of the same path."""
    safe = SafePaths()
    ours = {safe.inside(("disk", "volume", *path), f"~{number}.txt") for number, path in enumerate(paths)}
    theirs = [safe.of("disk", "volume", *path, "~1.txt") for path in paths]
    taken = {name_key("/".join(path[:end])) for path in theirs for end in range(1, len(path) + 1)}
    assert not {name_key("/".join(path)) for path in ours} & taken
