"""Which characters can be printed: Typst is asked whether the tables are true."""

import json
from importlib.util import find_spec

import pytest
import typst

from permille.out.pdf import fonts
from permille.out.pdf.fonts import Coverage, coverage_of, missing

with_noto = pytest.mark.skipif(len(fonts.folders()) < 2, reason="the Noto fonts are not installed")

NAMES = {
    "Arabic": "شركة الاختبار",
    "Bengali": "বাংলা কোম্পানি",
    "Chinese": "北京公司 臺灣公司",
    "Devanagari": "हिन्दी परीक्षण",
    "emoji": "🧾😀👩‍💻❤️",
    "Hebrew": "חברה בע״מ",
    "Japanese": "株式会社テスト",
    "Korean": "한국 주식회사",
    "Tamil": "தமிழ் நிறுவனம்",
    "Thai": "บริษัท ทดสอบ",
}


def prints(text: str, families: list[str], folders: list[str]) -> bool:
    """Whether Typst has a glyph for every character: PDF/A asks for it."""
    source = "#set text(font: json(bytes(sys.inputs.fonts)), hyphenate: false)\n#json(bytes(sys.inputs.text))"
    try:
        typst.compile(
            {"main.typ": source.encode()},
            format="pdf",
            pdf_standards="a-3b",
            font_paths=folders,
            ignore_system_fonts=True,
            sys_inputs={"text": json.dumps(text), "fonts": json.dumps(families)},
        )
    except typst.TypstError as error:
        assert "could not be displayed" in str(error), error
        return False
    return True


def test_ranges():
    found = coverage_of([5, 3, 4, 9, 3])
    assert found == Coverage((3, 9), (5, 9))
    assert [code for code in range(12) if found.has(chr(code))] == [3, 4, 5, 9]
    assert not coverage_of([]).has("a")


def test_what_is_missing_is_named_once_and_what_is_never_drawn_is_not():
    latin = coverage_of(range(0x20, 0x7F))
    assert missing("a猫\u200d\ufe0f\u2068\t\u00a0b犬猫", latin) == ["猫", "犬"]
    assert missing("a猫犬", latin, coverage_of([ord("猫")])) == ["犬"]


def test_the_table_of_the_fonts_inside_typst_is_true():
    table = fonts.typst_coverage()
    inside = [code for code in sorted({*table.firsts, *table.lasts}) if fonts._is_drawn(chr(code))]
    for code in inside[::8]:
        assert prints(chr(code), [fonts.SERIF], []), hex(code)
    beside = {*(first - 1 for first in table.firsts), *(last + 1 for last in table.lasts)}
    outside = [code for code in sorted(beside) if fonts._is_drawn(chr(code)) and not table.has(chr(code))]
    for code in outside[::8]:
        assert not prints(chr(code), [fonts.SERIF], []), hex(code)


@with_noto
@pytest.mark.parametrize("script", NAMES)
def test_a_name_of_the_script_has_all_its_glyphs(script):
    name = NAMES[script]
    assert fonts.unprintable(name) == []
    assert fonts.scripts()[script]
    assert prints(name, fonts.families("en", None), [str(folder) for folder in fonts.folders()])


@with_noto
@pytest.mark.parametrize("text", ["\U00010380", "\u1820", "\ue008"])
def test_what_no_font_has_is_named(text):
    assert fonts.unprintable(f"a{text}") == [text]
    assert not prints(text, fonts.families("en", None), [str(folder) for folder in fonts.folders()])


@with_noto
def test_typst_knows_every_family_that_it_is_given():
    found = typst.Fonts(
        include_system_fonts=False, font_paths=[str(folder) for folder in fonts.folders()]
    ).families()
    assert set(fonts.families("ja", None)) <= set(found)


def test_without_the_noto_fonts_their_scripts_are_missing(monkeypatch):
    monkeypatch.setattr(fonts, "folders", tuple)
    assert fonts.unprintable("Ελλάδα Zürich Пример 株式") == ["株", "式"]
    assert fonts.families("ja", None) == [fonts.SERIF, "New Computer Modern", "DejaVu Sans Mono"]
    assert fonts.scripts()["Thai"] is False


def test_han_characters_are_written_as_the_language_or_the_country_does(monkeypatch):
    monkeypatch.setattr(fonts, "folders", lambda: tuple(_Folder(name) for name in ("manimgx_fonts_cjk",)))
    for language, country, first in [
        ("ja", "CN", "JP"),
        ("en", "JP", "JP"),
        ("de", "TW", "TC"),
        ("zh-Hant", None, "TC"),
        ("zh", None, "SC"),
        ("en", None, "SC"),
        ("ko", None, "KR"),
    ]:
        assert fonts.families(language, country)[1] == f"Noto Sans CJK {first}"


class _Folder:
    def __init__(self, name: str) -> None:
        self.name = name


def test_the_fonts_come_with_an_open_licence():
    if len(fonts.folders()) == 2:
        from importlib.metadata import metadata

        for package in (fonts.NOTO_PACKAGE, fonts.HAN_PACKAGE):
            assert find_spec(package)
            assert metadata(package)["License-Expression"] == "OFL-1.1"
