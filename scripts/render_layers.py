"""Write the layers of `pyproject.toml` into `docs/architecture.md`; a test checks that the page is current."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"

_BEGIN, _END = "<!-- layers: written by scripts/render_layers.py -->\n", "<!-- end of layers -->"


def rendered_page() -> str:
    """The page as it should be."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    contracts = [contract for contract in settings["contracts"] if contract["type"] == "layers"]
    blocks = [f"{contract['name']}\n\n```\n" + "\n".join(contract["layers"]) + "\n```\n" for contract in contracts]
    page = PAGE.read_text()
    head, tail = page[: page.index(_BEGIN) + len(_BEGIN)], page[page.index(_END) :]
    return head + "\n" + "\n".join(blocks) + "\n" + tail


if __name__ == "__main__":
    PAGE.write_text(rendered_page())
