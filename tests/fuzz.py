"""Coverage-guided fuzzing of descriptors, extents and ``.vmx``: ``python tests/fuzz.py -max_total_time=300``.

Needs the ``atheris`` package (Linux). Whatever the bytes are: a disk or our error, and nothing else. Arguments go to
libFuzzer.
"""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "examples")]

with atheris.instrument_imports(include=["dissect_sesparse"]):
    from dissect_sesparse import SESparseError, open_chain
    from dissect_sesparse.findings.findings import findings
    from dissect_sesparse.findings.journals import journal
    from dissect_sesparse.vm.descriptor import parse_descriptor
    from dissect_sesparse.vm.snapshots import decode_text, parse_vmsd
    from dissect_sesparse.vm.vmx import parse_vmx

from sesparse_builder import ExtentBuilder

BUILDER = ExtentBuilder(8 * 4096)
for grain in range(0, 64, 2):
    BUILDER.allocate(grain, b"%08d" % grain * 512)
BUILDER.checkpoint()
for grain in range(1, 16, 2):
    BUILDER.allocate(grain, b"%08d" % grain * 512)
    BUILDER.commit()
BUILDER.set_dirty()
GOOD = BUILDER.to_bytes()[: 12288 * 512 + 64 * 4096]
PLACES = (
    0,
    512,
    1024,
    2048 * 512,
    (2048 + 25) * 512,
    (2048 + 26) * 512,
    (2048 + 50) * 512,
    4096 * 512,
    6144 * 512,
    8192 * 512,
    10240 * 512,
)


def extent(data: bytes) -> None:
    """A dirty extent with some 64-bit words replaced; the first byte is the options."""
    flags = data[0] if data else 0
    options = {"salvage": str(flags & 1), "journal": "ignore" if flags & 2 else "replay"}
    data = data[1:]
    image = bytearray(GOOD)
    for at in range(0, len(data) - 10, 11):
        region, slot, word = struct.unpack_from("<BHQ", data, at)
        where = PLACES[region % len(PLACES)] + slot % 64 * 8
        image[where : where + 8] = word.to_bytes(8, "little")
    with open_chain(io.BytesIO(bytes(image)), unreadable="zero", **options) as chain:
        chain.read(0, min(chain.size, 1 << 20))
        list(journal(chain))
        for number, _ in enumerate(findings(chain)):
            if number > 50:
                break


def one_input(data: bytes) -> None:
    """The first byte says what the rest is."""
    kind, data = data[:1], data[1:]
    try:
        if kind < b"\x55":
            parse_descriptor(data)
        elif kind < b"\xaa":
            extent(data)
        else:
            text = decode_text(data)
            parse_vmx(text)
            parse_vmsd(text)
    except SESparseError as e:
        assert str(e)


if __name__ == "__main__":
    # Long inputs from the start: an extent takes them eleven bytes a word.
    atheris.Setup([sys.argv[0], "-len_control=0", "-max_len=256", *sys.argv[1:]], one_input)
    atheris.Fuzz()
