"""Writes DLLs for 64-bit Windows that hold no code: each name that they export is one of another DLL.

Layout by "PE Format" (Microsoft): the headers, and one section with the export table.
"""

import struct
from pathlib import Path

SECTION, ALIGNED = 0x1000, 0x200
"""Where the only section stands in memory, and what sizes in the file are multiples of."""

_HEADER = struct.Struct("<IIHHIIIIIII")  # an export directory


def names_of(dll: Path) -> list[str]:
    """What a DLL exports by name."""
    image = dll.read_bytes()
    pe = _number(image, 0x3C)
    sections, optional = struct.unpack_from("<H", image, pe + 6)[0], struct.unpack_from("<H", image, pe + 20)[0]
    table = pe + 24 + optional

    def place(address: int) -> int:
        """Where in the file stands what is at an address in memory."""
        for n in range(sections):
            size, start, stored, offset = struct.unpack_from("<4I", image, table + 40 * n + 8)
            if start <= address < start + max(size, stored):
                return int(address - start + offset)
        raise ValueError(f"{dll}: no section holds {address:#x}")

    exports = place(_number(image, pe + 24 + 112))
    count, names = _number(image, exports + 24), place(_number(image, exports + 32))
    starts = [place(_number(image, names + 4 * n)) for n in range(count)]
    return [image[start : image.index(b"\0", start)].decode() for start in starts]


def forwarder(name: str, targets: dict[str, str]) -> bytes:
    """A DLL called `name`; `targets` says for each name that it exports which one that is, as `dll.name`."""
    section = _exports(name, dict(sorted(targets.items(), key=lambda row: row[0].encode())))
    stored = section.ljust(-(-len(section) // ALIGNED) * ALIGNED, b"\0")
    return _headers(len(section), len(stored)).ljust(ALIGNED, b"\0") + stored


def _exports(name: str, targets: dict[str, str]) -> bytes:
    """The section: the directory, three tables, and the texts that they point to."""
    count = len(targets)
    functions = SECTION + _HEADER.size
    names, ordinals = functions + 4 * count, functions + 8 * count
    texts, at = b"", ordinals + 2 * count
    places = []
    for text in (name, *targets.values(), *targets):
        places.append(at + len(texts))
        texts += text.encode() + b"\0"
    directory = _HEADER.pack(0, 0, 0, 0, places[0], 1, count, count, functions, names, ordinals)
    return directory + struct.pack(f"<{2 * count}I{count}H", *places[1:], *range(count)) + texts


def _headers(used: int, stored: int) -> bytes:
    image = SECTION + -(-used // 0x1000) * 0x1000
    dos = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, 1, 0, 0, 0, 240, 0x2022)  # x86-64, one section, a DLL
    optional = struct.pack("<HBBIIIII", 0x20B, 14, 0, 0, stored, 0, 0, SECTION)
    optional += struct.pack("<QII", 0x1_8000_0000, 0x1000, ALIGNED)  # may be loaded anywhere: it holds no address
    optional += struct.pack("<6HIIIIHH", 6, 0, 0, 0, 6, 0, 0, image, ALIGNED, 0, 3, 0x140)
    optional += struct.pack("<4QII", 0x10_0000, 0x1000, 0x10_0000, 0x1000, 0, 16)
    directories = struct.pack("<II", SECTION, used).ljust(128, b"\0")
    section = struct.pack("<8s6IHHI", b".edata", used, SECTION, stored, ALIGNED, 0, 0, 0, 0, 0x4000_0040)
    return dos + coff + optional + directories + section


def _number(image: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", image, at)[0])
