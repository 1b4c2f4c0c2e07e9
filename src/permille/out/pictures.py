"""A logo made safe to print: pictures of points become a small PNG, an SVG must name nothing outside itself."""

from __future__ import annotations

from datetime import date
from io import BytesIO
from threading import Lock
from xml.etree import ElementTree as ET

from permille.out.pdf.document import Logo
from permille.out.pdf.typesetting import UnableToTypeset, typeset

FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
POINTS_MAX = 9_000_000
"""Read one picture at a time: that takes up to 160 MB."""
SIDE_MAX = 1_200
TRIAL_SECONDS_MAX = 3
_READING = Lock()
_INSIDE = ("#", "data:image/png", "data:image/jpeg")
_TRIAL_DATE = date(2000, 1, 1)


class UnusablePicture(Exception):  # noqa: N818 -- what went wrong is the name
    """Why it cannot be printed, in a sentence for the user."""


def printable(body: bytes) -> Logo:
    """The picture as documents print it. Raises UnusablePicture.

    It is set alone once, so that nothing that Typst refuses, or is slow at, gets into an invoice.
    """
    logo = _svg(body) if body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") else _png(body)
    try:
        typeset("logo.typ", {}, dated=_TRIAL_DATE, logo=logo, seconds_max=TRIAL_SECONDS_MAX)
    except UnableToTypeset as error:
        raise UnusablePicture(f"The picture cannot be printed: {str(error).splitlines()[-1]}") from error
    return logo


def _png(body: bytes) -> Logo:
    from PIL import Image, ImageOps

    out = BytesIO()
    try:
        with _READING, Image.open(BytesIO(body), formats=FORMATS) as picture:
            if picture.width * picture.height > POINTS_MAX:
                raise UnusablePicture(
                    f"The picture has {picture.width} x {picture.height} points: use fewer, like 1200 x 1200."
                )
            picture.thumbnail((SIDE_MAX, SIDE_MAX))
            ImageOps.exif_transpose(picture).convert("RGBA").save(out, "PNG")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnusablePicture("It is no picture: use PNG, JPEG, GIF, WebP or SVG.") from error
    return Logo(content=out.getvalue(), media_type="image/png")


def _svg(body: bytes) -> Logo:
    try:
        text = body.decode("utf-8-sig")
        if "<!" in text.replace("<!--", "").replace("<![CDATA[", ""):
            raise UnusablePicture("An SVG with a DOCTYPE is not printed: save it without.")
        root = ET.fromstring(text)  # noqa: S314 -- without a DOCTYPE there are no entities
    except (UnicodeDecodeError, ET.ParseError, ValueError) as error:
        raise UnusablePicture("It is no picture: use PNG, JPEG, GIF, WebP or SVG.") from error
    if root.tag != "{http://www.w3.org/2000/svg}svg":
        raise UnusablePicture("It is no picture: use PNG, JPEG, GIF, WebP or SVG.")
    for element in root.iter():
        for name, value in element.items():
            if name.rpartition("}")[2] == "href" and not value.strip().startswith(_INSIDE):
                raise UnusablePicture("The SVG refers to another file: save it with everything inside.")
    return Logo(content=text.encode(), media_type="image/svg+xml")
