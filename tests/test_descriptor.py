"""Descriptors: every spelling met in the field, and none of the hostile ones gets through or takes long."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sesparse_builder import descriptor

from dissect_sesparse.source.errors import DescriptorError
from dissect_sesparse.source.file import MAX_DESCRIPTOR_SIZE, EvidenceFile
from dissect_sesparse.vm.descriptor import ExtentDescriptor, looks_like_descriptor, parse_descriptor, read_descriptor

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = '# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="seSparse"\n'
EXTENT = 'RW 40960 SESPARSE "vm-000001-sesparse.vmdk"'


def extents(*lines: str) -> tuple[ExtentDescriptor, ...]:
    return parse_descriptor((HEAD + "\n".join(lines) + "\n").encode()).extents


def refusal(text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(DescriptorError) as caught:
        parse_descriptor(data, "evil.vmdk")
    message = str(caught.value)
    assert message.startswith("evil.vmdk: ")
    assert len(message) < 1000, "a hostile value belongs into no message as a whole"
    return message


# As ESXi writes it

ESXI = """# Disk DescriptorFile
version=1
encoding="UTF-8"
CID=9ab7b5d4
parentCID=51b5bcc5
isNativeSnapshot="no"
createType="seSparse"
parentFileNameHint="vm.vmdk"
# Extent description
RW 1048576 SESPARSE "vm-000001-sesparse.vmdk"

# Change Tracking File
changeTrackPath="vm-000001-ctk.vmdk"

# The Disk Data Base
#DDB

ddb.grain = "8"
ddb.longContentID = "1a2bdc5ac6a1cf6bb2fcb9ba9ab7b5d4"
ddb.toolsInstallType = "0"


"""


def test_as_esxi_writes_it() -> None:
    parsed = parse_descriptor(ESXI.encode(), "vm-000001.vmdk")
    assert parsed.path == "vm-000001.vmdk"
    assert parsed.create_type == "seSparse"
    assert (parsed.cid, parsed.parent_cid) == ("9ab7b5d4", "51b5bcc5")
    assert parsed.parent_hint == "vm.vmdk"
    assert parsed.has_parent
    assert parsed.size == 512 * 1024 * 1024
    assert parsed.extents == (
        ExtentDescriptor(
            'RW 1048576 SESPARSE "vm-000001-sesparse.vmdk"', "RW", 1048576, "SESPARSE", "vm-000001-sesparse.vmdk", 0
        ),
    )
    assert parsed.ddb["ddb.grain"] == "8"
    assert parsed.ddb["ddb.longcontentid"] == "1a2bdc5ac6a1cf6bb2fcb9ba9ab7b5d4"
    assert parsed.attributes["changetrackpath"] == "vm-000001-ctk.vmdk"
    assert parsed.repeated == ()


@pytest.mark.parametrize("version", [1, 3, 4])
def test_as_the_builder_writes_it(version: int) -> None:
    text = descriptor(
        [(100, "VMFS", "a-flat.vmdk"), (50, "FLAT", "b.vmdk")], cid="0000beef", create_type="vmfs", version=version
    )
    parsed = parse_descriptor(text.encode())
    assert [(e.type, e.sectors, e.filename, e.start_sector) for e in parsed.extents] == [
        ("VMFS", 100, "a-flat.vmdk", 0),
        ("FLAT", 50, "b.vmdk", 0),
    ]
    assert (parsed.cid, parsed.parent_cid, parsed.has_parent) == ("0000beef", "ffffffff", False)
    assert parsed.size == 150 * 512


# Spellings


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r", "\n\n", " \t\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("padding", [b"", b"\x00" * 10000])
def test_line_ends_bom_and_padding(ending: str, bom: bytes, padding: bytes) -> None:
    data = bom + ESXI.replace("\n", ending).encode() + padding
    assert looks_like_descriptor(data)
    parsed = parse_descriptor(data)
    assert parsed.extents == parse_descriptor(ESXI.encode()).extents
    assert parsed.attributes == parse_descriptor(ESXI.encode()).attributes


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf16_with_bom(codec: str) -> None:
    assert parse_descriptor(("\ufeff" + ESXI).encode(codec)).cid == "9ab7b5d4"


@pytest.mark.parametrize(
    "first",
    [
        "# Disk DescriptorFile",
        "#Disk DescriptorFile",
        "# disk descriptorfile",
        "# DISK DESCRIPTORFILE",
        "\n\n# Disk DescriptorFile",
        "  # Disk DescriptorFile  ",
        "# Disk Descriptor File",
        "# a comment of somebody's\n# Disk DescriptorFile",
        "",
    ],
)
def test_first_lines(first: str) -> None:
    data = ESXI.replace("# Disk DescriptorFile", first).encode()
    assert looks_like_descriptor(data)
    assert parse_descriptor(data).cid == "9ab7b5d4"


@pytest.mark.parametrize(
    ("encoding", "codec", "name"),
    [
        ("UTF-8", "utf-8", "Bürö-日本"),
        ("windows-1252", "windows-1252", "Bürö"),
        ("WINDOWS-1252", "cp1252", "Bürö€"),
        # As the other encoding, these bytes are UTF-8 for something else
        ("windows-1252", "utf-8", "Bürö"),
        ("GBK", "gbk", "测试"),
        ("GBK", "gbk", "模"),
        ("Shift_JIS", "shift_jis", "テスト表"),  # the last one's second byte is a backslash
        ("Big5", "big5", "測試"),
        ("EUC-KR", "euc-kr", "시험"),
        ("", "utf-8", "Bürö"),
    ],
)
def test_encodings(encoding: str, codec: str, name: str) -> None:
    text = ESXI.replace("UTF-8", encoding).replace('"vm', f'"{name}')
    parsed = parse_descriptor(text.encode(codec))
    assert parsed.extents[0].filename == f"{name}-000001-sesparse.vmdk"
    assert parsed.parent_hint == f"{name}.vmdk"


@pytest.mark.parametrize(
    "encoding", ["no-such-thing", "hex", "rot13", "undefined", "idna", "zlib", "x" * 5000, "a.b", "."]
)
def test_encodings_that_are_none(encoding: str) -> None:
    """A byte that is no UTF-8, in a comment: all that matters is still there."""
    text = ESXI.replace("UTF-8", encoding).encode().replace(b"# Extent", b"# \xff\xfe Extent")
    assert parse_descriptor(text).extents[0].filename == "vm-000001-sesparse.vmdk"


@pytest.mark.parametrize(
    "line",
    [
        'RW 40960 SESPARSE "a b.vmdk"',
        'rw 40960 sesparse "a b.vmdk"',
        'Rw\t40960\tSeSparse\t"a b.vmdk"',
        '  RW   40960    SESPARSE  \t "a b.vmdk"  ',
        'RW 40960 SESPARSE "a b.vmdk" # with a comment',
        'RW 40960 SESPARSE "a b.vmdk"     #comment "with" = signs',
    ],
)
def test_extent_line(line: str) -> None:
    (extent,) = extents(line)
    assert (extent.access, extent.sectors, extent.type) == ("RW", 40960, "SESPARSE")
    assert (extent.filename, extent.start_sector) == ("a b.vmdk", 0)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('RW 10 FLAT "a.vmdk" 0', ("RW", 10, "FLAT", "a.vmdk", 0)),
        ('RW 10 FLAT "a.vmdk" 2048', ("RW", 10, "FLAT", "a.vmdk", 2048)),
        ('RW 10 flat "a.vmdk"  2048  # at 1 MiB', ("RW", 10, "FLAT", "a.vmdk", 2048)),
        ('RDONLY 10 VMFS "a.vmdk"', ("RDONLY", 10, "VMFS", "a.vmdk", 0)),
        ('NOACCESS 10 FLAT "a.vmdk" 7', ("NOACCESS", 10, "FLAT", "a.vmdk", 7)),
        ("RW 10 ZERO", ("RW", 10, "ZERO", None, 0)),
        ("RW 10 ZERO # nothing", ("RW", 10, "ZERO", None, 0)),
        ("RW 10 SESPARSE a.vmdk", ("RW", 10, "SESPARSE", "a.vmdk", 0)),
        ("RW 10 FLAT a.vmdk 2048", ("RW", 10, "FLAT", "a.vmdk", 2048)),
        ("RW 10 FLAT a=b.vmdk 2048", ("RW", 10, "FLAT", "a=b.vmdk", 2048)),
        ('RW 10 FLAT "a=b.vmdk" 2048', ("RW", 10, "FLAT", "a=b.vmdk", 2048)),
        ('RW 10 FLAT "a#b.vmdk" 1', ("RW", 10, "FLAT", "a#b.vmdk", 1)),
        ('RW 10 SESPARSE "/vmfs/volumes/ds 1/vm/a.vmdk"', ("RW", 10, "SESPARSE", "/vmfs/volumes/ds 1/vm/a.vmdk", 0)),
        ('RW 10 FLAT "\\\\.\\PhysicalDrive0" 63 partitionUUID x', ("RW", 10, "FLAT", "\\\\.\\PhysicalDrive0", 63)),
        ('RW 10 VMFSRDM "a-rdm.vmdk"', ("RW", 10, "VMFSRDM", "a-rdm.vmdk", 0)),
        ('RW 10 NEWTYPE "a.vmdk"', ("RW", 10, "NEWTYPE", "a.vmdk", 0)),
    ],
)
def test_kinds_of_extents(line: str, expected: tuple) -> None:
    (extent,) = extents(line)
    assert (extent.access, extent.sectors, extent.type, extent.filename, extent.start_sector) == expected
    assert extent.raw == line.strip()


@pytest.mark.parametrize(
    "line",
    [
        "RW",
        "RW 10",
        'RW "a.vmdk"',
        'RW SESPARSE 10 "a.vmdk"',
        'RW 0 SESPARSE "a.vmdk"',
        'RW -10 SESPARSE "a.vmdk"',
        'RW 1.5 SESPARSE "a.vmdk"',
        'RW 0x10 SESPARSE "a.vmdk"',
        'RW 99999999999999999999 SESPARSE "a.vmdk"',
        'RW 99999999999999999 SESPARSE "a.vmdk"',
        'RW 10 SESPARSE "a.vmdk',
        'RW 10 SESPARSE a.vmdk"',
        'RW 10 SESPARSE "a"b.vmdk"',
        # A start sector that is not understood must not become 0
        'RW 10 FLAT "a.vmdk" -5',
        'RW 10 FLAT "a.vmdk" 0x800',
        'RW 10 FLAT "a.vmdk" 2048junk',
        'RW 10 FLAT "a.vmdk" junk',
        'RW 10 FLAT "a.vmdk" 99999999999999999999',
        'RW 10 FLAT "a.vmdk" 999999999999999999',
        # A name with a blank needs its quotes: half of it may be another file's
        "RW 10 FLAT a b.vmdk 0",
        # These look like extents; to skip one would move all that follow
        'RO 10 SESPARSE "a.vmdk"',
        'SW 10 SESPARSE "a.vmdk"',
        '\x00W 10 SESPARSE "a.vmdk"',
        'RW10 SESPARSE "a.vmdk"',
        'R W 10 SESPARSE "a.vmdk"',
        'SW 10 FLAT "a=b.vmdk" 0',
    ],
)
@pytest.mark.parametrize("where", ["first", "last", "alone"])
def test_extent_lines_that_make_no_sense(line: str, where: str) -> None:
    good = 'RW 5 FLAT "good.vmdk" 0'
    lines = {"first": [line, good], "last": [good, line], "alone": [line]}[where]
    assert "extent" in refusal(HEAD + "\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("a=1", "a", "1"),
        ("A = 1", "a", "1"),
        ("  a\t=\t1  ", "a", "1"),
        ('a="1"', "a", "1"),
        ('a = "1" # comment', "a", "1"),
        ('a="1', "a", "1"),
        ('a=""', "a", ""),
        ("a=", "a", ""),
        ('a="x=y"', "a", "x=y"),
        ('a=" # "', "a", " # "),
        ("rw=1", "rw", "1"),
        ("RW = 1", "rw", "1"),
    ],
)
def test_attributes(line: str, name: str, value: str) -> None:
    assert parse_descriptor((HEAD + line + "\n" + EXTENT).encode()).attributes[name] == value


def test_extent_line_before_the_attributes_and_lower_case_names() -> None:
    text = f'# Disk DescriptorFile\n{EXTENT}\nparentcid=0000000a\nCid=B\nparentfilenamehint="p.vmdk"\nCREATETYPE="x"\n'
    parsed = parse_descriptor(text.encode())
    assert (parsed.parent_cid, parsed.cid, parsed.parent_hint, parsed.create_type) == (
        "0000000a",
        "0000000b",
        "p.vmdk",
        "x",
    )


def test_comments_do_not_count() -> None:
    text = HEAD + '#RW 1 SESPARSE "no.vmdk"\n # CID=99999999\n#\n##\n' + EXTENT
    parsed = parse_descriptor(text.encode())
    assert len(parsed.extents) == 1
    assert parsed.cid == "12345678"


def test_the_first_of_two_values_counts_and_the_other_is_told() -> None:
    text = HEAD + 'parentFileNameHint="right.vmdk"\nPARENTFILENAMEHINT="wrong.vmdk"\nCID=12345678\n' + EXTENT
    parsed = parse_descriptor(text.encode())
    assert parsed.parent_hint == "right.vmdk"
    assert parsed.repeated == ("parentfilenamehint",)


def test_ddb_names_are_their_own() -> None:
    parsed = parse_descriptor((HEAD + 'ddb.cid = "1"\nddb.CID="2"\n' + EXTENT).encode())
    assert parsed.cid == "12345678"
    assert parsed.ddb == {"ddb.cid": "1"}
    assert parsed.repeated == ("ddb.cid",)


# Content IDs


@pytest.mark.parametrize(
    ("written", "cid"),
    [
        ("ABCDEF01", "abcdef01"),
        ("0xABCDEF01", "abcdef01"),
        ("1f", "0000001f"),
        (" 1F ", "0000001f"),
        ('"1f"', "0000001f"),
    ],
)
def test_content_ids(written: str, cid: str) -> None:
    parsed = parse_descriptor(f"# Disk DescriptorFile\nCID={written}\nparentCID={written}\n{EXTENT}".encode())
    assert (parsed.cid, parsed.parent_cid) == (cid, cid)


def test_no_content_ids() -> None:
    parsed = parse_descriptor(f"# Disk DescriptorFile\n{EXTENT}".encode())
    assert (parsed.cid, parsed.parent_cid, parsed.has_parent) == ("", "", False)


@pytest.mark.parametrize("name", ["CID", "parentCID"])
@pytest.mark.parametrize("value", ["", "xyz", "12 34", "-1", "1" * 33, "0x", "1234567g"])
def test_content_ids_that_are_none(name: str, value: str) -> None:
    assert f"{name.lower()} is" in refusal(f"# Disk DescriptorFile\n{name}={value}\n{EXTENT}")


def test_long_content_id() -> None:
    long_id = "1A2bdc5ac6a1cf6bb2fcb9ba9ab7b5d4"
    text = HEAD.replace("12345678", "fffffffe") + EXTENT + f'\nddb.longContentID = "{long_id}"\n'
    assert parse_descriptor(text.encode()).cid == long_id.lower()


@pytest.mark.parametrize(
    ("lines", "has_parent"),
    [
        ("parentCID=ffffffff", False),
        ("parentCID=FFFFFFFF", False),
        ("parentCID=0000000a", True),
        ("", False),
        # The two disagree: then there is one, to be looked for
        ('parentCID=ffffffff\nparentFileNameHint="p.vmdk"', True),
        ('parentFileNameHint="p.vmdk"', True),
        ('parentCID=ffffffff\nparentFileNameHint=""', False),
    ],
)
def test_has_parent(lines: str, has_parent: bool) -> None:
    assert parse_descriptor(f"# Disk DescriptorFile\nCID=1\n{lines}\n{EXTENT}".encode()).has_parent is has_parent


# Not a descriptor


def test_no_extents() -> None:
    assert "no extent" in refusal(HEAD)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00" * 4096, b"\xff" * 600, b"KDMV" + bytes(508), b"hello", b"\xbe\xba\xfe\xca" + bytes(508), b"# Disk\n"],
    ids=["empty", "zeros", "ones", "hosted", "text", "sesparse", "half a first line"],
)
def test_something_else(data: bytes) -> None:
    assert not looks_like_descriptor(data)
    message = refusal(data)
    assert "not a descriptor" in message
    assert data[:4].hex(" ") in message if data else "empty" in message


@given(st.binary(max_size=2000))
def test_garbage_gives_only_descriptor_errors(data: bytes) -> None:
    for text in (data, HEAD.encode() + data, data + b"\n" + EXTENT.encode(), b"RW 1 " + data):
        try:
            parse_descriptor(text)
        except DescriptorError:
            pass


@given(st.lists(st.sampled_from([*HEAD.splitlines(), EXTENT, 'RW 5 FLAT "a" 7', "RW 3 ZERO", "#", "="]), max_size=30),
       st.data())  # fmt: skip
def test_damaged_lines_never_lose_an_extent(lines: list[str], data: st.DataObject) -> None:
    """One damaged character: the extents are the same in number, or the descriptor is refused."""
    lines = ["# Disk DescriptorFile", "CID=1", *lines, 'RW 5 FLAT "a" 7']
    whole = parse_descriptor("\n".join(lines).encode())
    victim = data.draw(st.sampled_from([n for n, line in enumerate(lines) if line.startswith("RW")]))
    at = data.draw(st.integers(0, 4))  # in the access and the size: what makes it an extent line
    char = data.draw(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#="))
    damaged = lines.copy()
    damaged[victim] = lines[victim][:at] + char + lines[victim][at + 1 :]
    try:
        parsed = parse_descriptor("\n".join(damaged).encode())
    except DescriptorError:
        return
    assert len(parsed.extents) == len(whole.extents)


# Bounds


def file_of(data: bytes) -> EvidenceFile:
    return EvidenceFile(io.BytesIO(data))


def test_one_mebibyte_is_read_and_no_more() -> None:
    text = (HEAD + EXTENT + "\n").encode()
    assert read_descriptor(file_of(text + b"#" * (MAX_DESCRIPTOR_SIZE - len(text)))).cid == "12345678"
    with pytest.raises(DescriptorError, match="1048577 bytes"):
        read_descriptor(file_of(text + b"#" * (MAX_DESCRIPTOR_SIZE - len(text) + 1)))


def test_a_huge_file_is_not_read() -> None:
    class Huge(io.RawIOBase):
        def seek(self, pos: int, whence: int = 0) -> int:
            return 1 << 62 if whence == io.SEEK_END else pos

        def read(self, n: int = -1) -> bytes:
            pytest.fail("a byte of it was read")

    with pytest.raises(DescriptorError):
        read_descriptor(EvidenceFile(Huge()))  # type: ignore[arg-type]


def test_too_many_extents() -> None:
    assert len(extents(*["RW 1 ZERO"] * 4096)) == 4096
    assert "4097 extents" in refusal(HEAD + "RW 1 ZERO\n" * 4097)


def test_sum_of_the_extents() -> None:
    half = (1 << 45) + 1
    assert "larger than any disk" in refusal(HEAD + f'RW {half} FLAT "a" 0\n' * 2)
    assert extents(f"RW {1 << 46} ZERO")[0].sectors == 1 << 46


HOSTILE = r"""
MIB = 1 << 20
HEAD = b"# Disk DescriptorFile\nCID=1\nparentCID=ffffffff\n"

def filled(before, unit, after=b""):
    room = MIB - len(before) - len(after)
    return before + unit * (room // len(unit)) + after

TEXTS = {
    "blanks": filled(HEAD, b" "),
    "newlines": filled(HEAD, b"\n"),
    "carriage returns": filled(HEAD, b"\r"),
    "both": filled(HEAD, b"\r\n"),
    "tabs before an extent": filled(HEAD, b"\t", b'RW 1 FLAT "a" 0'),
    "blanks in an extent": filled(HEAD + b"RW 1 FLAT", b" ", b"x"),
    "blanks and hashes": filled(HEAD + b"RW 1 FLAT", b" #"),
    "blanks then a quote": filled(HEAD + b"RW 1 FLAT", b" ", b'"'),
    "blanks and digits": filled(HEAD + b"RW 1 FLAT \"a\"", b" 1"),
    "blanks and letters": filled(HEAD + b"RW 1 FLAT \"a\"", b" x", b"\x0b"),
    "vertical tabs": filled(HEAD + b"RW 1 FLAT \"a\"", b"\x0b", b"#\x0b"),
    "quotes": filled(HEAD + b"RW 1 FLAT ", b'"'),
    "quotes and blanks": filled(HEAD + b"RW 1 FLAT ", b'" '),
    "digits": filled(HEAD + b"RW ", b"9", b' FLAT "a"'),
    "start digits": filled(HEAD + b'RW 1 FLAT "a" ', b"9"),
    "long type": filled(HEAD + b"RW 1 ", b"F", b' "a"'),
    "long word": filled(HEAD, b"R"),
    "long name": filled(HEAD + b'RW 1 FLAT "', b"a", b'"'),
    "long bare name": filled(HEAD + b"RW 1 FLAT ", b"a"),
    "extents": filled(HEAD, b"RW 1 ZERO\n"),
    "extents on one line": filled(HEAD, b"RW 1 ZERO "),
    "broken extents": filled(HEAD, b"RW x\n"),
    "RW": filled(HEAD, b"RW "),
    "attributes": filled(HEAD, b"a=b\n"),
    "repeated": HEAD + b"".join(b"a=%d\n" % i for i in range(120000)),
    "many attributes": HEAD + b"".join(b"a%d=\n" % i for i in range(100000)),
    "equal signs": filled(HEAD, b"="),
    "comments": filled(HEAD, b"#\n"),
    "hashes": filled(HEAD, b"#"),
    "nul": filled(HEAD, b"\x00", b"x"),
    "ones": filled(HEAD, b"\xff"),
    "encoding lines": filled(HEAD, b"encoding \n"),
    "blanks in encoding": filled(HEAD + b"\xffencoding", b" ", b"="),
    "long encoding": filled(HEAD + b'\xff\nencoding="', b"x", b'"\n'),
    "punycode": filled(HEAD + b'encoding="punycode"\n#\xff', b"a-"),
    "idna": filled(HEAD + b'encoding="idna"\n#\xff', b"xn--a."),
    "unicode_escape": filled(HEAD + b'encoding="unicode_escape"\n#\xff', b"\\N{BELL}"),
    "utf-7": filled(HEAD + b'encoding="utf-7"\n#\xff', b"+AAA-"),
    "cid": filled(HEAD[:22] + b"CID=", b"1"),
    "gbk": filled(HEAD + b'encoding="gbk"\n', b"\xc4\xa3"),
    "bom16": filled(b"\xff\xfe", b"R\x00W\x00 \x00"),
    "random words": filled(HEAD, b'RW 1 FLAT "a" 0 b "c" # d\tRDONLY "\n'),
}
import sys
from limits import TooMuch, limit_memory, no_memory_error, within
from dissect_sesparse.vm.descriptor import parse_descriptor, looks_like_descriptor
from dissect_sesparse.source.errors import DescriptorError

limit_memory()
for name, text in TEXTS.items():
    try:
        with within(20_000_000):
            looks_like_descriptor(text[len(HEAD):])
            parse_descriptor(text, "x.vmdk")
    except DescriptorError as e:
        assert len(str(e)) < 1000, name
        no_memory_error(e)
    except TooMuch as e:
        sys.exit(f"{name}: {e}")
print(len(TEXTS), "texts")
"""


@pytest.mark.slow
def test_hostile_texts_take_no_time_and_no_memory(limited: Callable[..., str]) -> None:
    assert "texts" in limited(HOSTILE)


def test_a_long_content_id_is_what_its_end_says() -> None:
    """CID fffffffe: the long content ID counts, of which a child knows the last eight digits."""
    text = b'# Disk DescriptorFile\nCID=fffffffe\nRW 8 ZERO\nddb.longContentID = "00112233445566778899aabb7ab03f12"\n'
    descriptor = parse_descriptor(text)
    assert descriptor.has_cid("7ab03f12")
    assert descriptor.has_cid("00112233445566778899aabb7ab03f12")
    assert not descriptor.has_cid("7ab03f13")
    assert not descriptor.has_cid("")
    assert not parse_descriptor(b"# Disk DescriptorFile\nCID=12345678\nRW 8 ZERO\n").has_cid("5678")
