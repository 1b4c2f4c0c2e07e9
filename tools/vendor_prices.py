"""Write the price data of the installed genai-prices into the package: `python tools/vendor_prices.py`.

The file has the shape of the project's own data.json, without what prices don't need, compressed, beside its licence.
"""

from __future__ import annotations

import json
import lzma
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parents[1] / "src" / "permille" / "price_catalogue"
PROVIDER_FIELDS = (
    *("id", "name", "api_pattern", "model_match", "provider_match", "fallback_model_providers", "models"),
)
MODEL_FIELDS = ("id", "name", "match", "deprecated", "prices", "price_variants")


def main() -> None:
    """Read, reduce and write."""
    found = distribution("genai-prices")
    TARGET.mkdir(exist_ok=True)
    for old in TARGET.glob("genai-prices-*"):
        old.unlink()
    text = json.dumps(document(), separators=(",", ":"), sort_keys=True)
    packed = lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)
    (TARGET / f"genai-prices-{found.version}.json.xz").write_bytes(packed)
    [licence] = [each for each in found.files or () if each.name == "LICENSE"]
    (TARGET / "LICENSE").write_text(licence.read_text())
    print(f"{found.version}: {len(text):,} bytes, {len(packed):,} compressed")


def document() -> list[dict[str, Any]]:
    """The package's providers in the shape of its data.json."""
    from genai_prices.data import providers

    return [_plain(each, PROVIDER_FIELDS) for each in providers]


def _plain(value: Any, fields: tuple[str, ...] | None = None) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return value
    if not hasattr(value, "__dict__"):
        return value if isinstance(value, bool | int | str) else str(value)
    if type(value).__name__ == "ModelInfo":
        fields = MODEL_FIELDS
    return {
        name.rstrip("_"): _plain(each)
        for name, each in vars(value).items()
        if each is not None and (fields is None or name in fields)
    }


if __name__ == "__main__":
    main()
