"""Write src/permille/out/pdf/typst_coverage.txt: the characters that the fonts inside Typst have.

Typst has no call for it, so the fonts are found in its library by their headers. Run it when Typst is updated:
`.venv/bin/python tools/typst_coverage.py`, two minutes; tests/out/test_fonts.py asks Typst itself whether the table is true.
"""

from __future__ import annotations

import io
import struct
import unicodedata
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import typst
from fontTools.ttLib import TTFont, TTLibError

from permille.out.pdf.fonts import NOT_DRAWN, coverage_of

TABLE = Path(__file__).resolve().parent.parent / "src/permille/out/pdf/typst_coverage.txt"
MAGIC = (b"OTTO", b"\0\1\0\0")


def fonts_inside(data: bytes) -> Iterator[TTFont]:
    for magic in MAGIC:
        at = data.find(magic)
        while at >= 0:
            if (size := font_size(data, at)) is not None:
                try:
                    font = TTFont(io.BytesIO(data[at : at + size]))
                    font.getBestCmap()
                    yield font
                except (TTLibError, KeyError, AssertionError, struct.error):
                    pass
            at = data.find(magic, at + 1)


def font_size(data: bytes, at: int) -> int | None:
    """The bytes of a font whose table directory begins here, None when it is no such directory."""
    tables = int.from_bytes(data[at + 4 : at + 6], "big")
    if not 8 <= tables <= 40:
        return None
    end = 0
    for entry in range(at + 12, at + 12 + 16 * tables, 16):
        if not all(0x20 <= byte < 0x7F for byte in data[entry : entry + 4]):
            return None
        offset, length = struct.unpack(">II", data[entry + 8 : entry + 16])
        end = max(end, offset + length)
    return end


def is_set(code: int) -> bool:
    """Whether Typst does set it: it refuses private use, and passes over a few symbols that a font has."""
    try:
        typst.compile({"main.typ": f'#"\\u{{{code:x}}}"'.encode()}, format="pdf", pdf_standards="a-3b",
                      ignore_system_fonts=True)  # fmt: skip
    except typst.TypstError:
        return False
    return True


def main() -> None:
    package = find_spec("typst")
    assert package is not None
    assert package.origin is not None
    library = next(Path(package.origin).parent.glob("*.so"))
    codes: set[int] = set()
    for font in fonts_inside(library.read_bytes()):
        codes |= set(font.getBestCmap())
    found = coverage_of(
        code for code in codes if unicodedata.category(chr(code)) in NOT_DRAWN or is_set(code)
    )
    ranges = zip(found.firsts, found.lasts, strict=True)
    TABLE.write_text("".join(f"{first:X}-{last:X}\n" for first, last in ranges))


if __name__ == "__main__":
    main()
