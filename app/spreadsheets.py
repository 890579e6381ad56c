"""Text in cells that spreadsheets open."""

from __future__ import annotations

# Excel, LibreOffice and Google Sheets run a cell that begins like this as a formula; a line end or a tab before the
# sign does not keep them from it, nor does the wide form that East Asian keyboards write.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def inert(text: str) -> str:
    """The text as a cell that is shown and not run; a NUL, at which programs cut it off, is dropped."""
    text = text.replace("\0", "")
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
