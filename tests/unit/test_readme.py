"""README.md and docs/ say what is so. Run as a program, it writes the README's table of settings (make settings)."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from app import create_app
from app.fetching import codes as fetch_codes
from app.processors import codes as processor_codes
from app.storage import codes as storage_codes
from config import Settings

PROJECT = Path(__file__).resolve().parents[2]
README = PROJECT / "README.md"
PAGES = [README, *sorted((PROJECT / "docs").rglob("*.md"))]
BEGIN, END = "<!-- settings -->\n", "<!-- /settings -->"
MADE = {"build", "var", "secrets"}  # by commands, so that what is within may be there or not
# Codes that neither the downloads nor the processors give.
OTHER_CODES = {"unknown_store", "internal_error", "cancelled"}

page_by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))


def settings_table() -> str:
    rows = ["| name | default | meaning |", "|---|---|---|"]
    for name, setting in Settings.model_fields.items():
        default = f"`{setting.default}`" if str(setting.default) else ""
        rows.append(f"| `{name}` | {default} | {setting.description} |")
    return "\n".join(rows) + "\n"


def with_settings_table(text: str) -> str:
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + settings_table() + END + rest.partition(END)[2]


def anchors(page: Path) -> set[str]:
    """The names that headings are linked by."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_settings_are_those_of_the_configuration() -> None:
    text = README.read_text()
    assert text == with_settings_table(text), "run: make settings"


def test_every_setting_has_a_meaning() -> None:
    assert all(setting.description for setting in Settings.model_fields.values())


@page_by_page
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    named = {*re.findall(r"^make ([a-z-]+)", text, re.MULTILINE), *re.findall(r"`make ([a-z-]+)", text)}
    assert named <= targets


@page_by_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@page_by_page
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`([\w.-]+(?:/[\w.-]+)*/?)`", page.read_text())
    # Within the repository: what begins with one of its folders, and pages and modules at its top.
    tops = {path.name for path in PROJECT.iterdir() if path.is_dir() and path.name[0] != "."} - MADE
    for name in named:
        if name.split("/")[0] in tops and "/" in name:
            assert (PROJECT / name).exists(), name
        elif "/" not in name and re.fullmatch(r"[\w-]+\.(md|toml|txt)", name):
            assert (PROJECT / name).exists() or (page.parent / name).exists(), name


@page_by_page
def test_nothing_is_said_of_the_machine_that_it_was_written_on(page: Path) -> None:
    text = page.read_text()
    assert str(PROJECT) not in text and str(Path.home()) not in text
    # Where deploy/install.sh puts things, on every machine.
    text = re.sub(r"/(?:opt|etc|run|var/lib)/imagejobs\b", "", text)
    for folder in Path("/").iterdir():
        assert not re.search(rf"(?<![\w.]){re.escape(str(folder))}/", text), folder


@page_by_page
def test_nothing_is_left_to_be_written(page: Path) -> None:
    assert not re.search(r"\b(TODO|FIXME|XXX|TBD)\b", page.read_text())


def test_every_decision_is_linked() -> None:
    text = README.read_text()
    assert all(f"docs/decisions/{page.name}" in text for page in (PROJECT / "docs/decisions").glob("*.md"))


def test_every_error_code_of_images_is_documented() -> None:
    text = (PROJECT / "docs/api.md").read_text().partition("## Error codes of images")[2]
    found = re.findall(r"^\| `(.+?)` \| (.+) \| (\w+) \|$", text, re.MULTILINE)
    rows = {code: (meaning, again) for code, meaning, again in found}
    assert set(rows) == {*fetch_codes.CODES, *processor_codes.CODES, *storage_codes.CODES, *OTHER_CODES}
    for code, stored in storage_codes.CODES.items():
        assert rows[code] == (stored.meaning, "yes" if stored.transient else "no")
    for code, entry in fetch_codes.CODES.items():
        again = "some" if code == "http_<status>" else "yes" if entry.transient else "no"
        assert rows[code] == (entry.meaning, again)
    for code, meaning in processor_codes.CODES.items():
        assert rows[code] == (meaning, "yes" if code in processor_codes.TRANSIENT else "no")


def test_every_error_code_of_processors_is_documented() -> None:
    text = (PROJECT / "docs/api.md").read_text().partition("## Error codes of processors")[2].partition("##")[0]
    assert dict(re.findall(r"^\| `(.+?)` \| (.+) \|$", text, re.MULTILINE)) == processor_codes.PROCESSOR_CODES


def test_every_test_that_shows_a_fault_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (PROJECT / "docs/reliability.md").read_text()))
    files = [file.read_text() for file in (PROJECT / "tests").rglob("test_*.py")]
    there = {name for text in files for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)}
    assert named and named <= there, named - there


def test_every_route_is_documented(tmp_path: Path) -> None:
    headings = re.findall(r"^## (.+)$", (PROJECT / "docs/api.md").read_text(), re.MULTILINE)
    documented = {part for heading in headings for part in re.findall(r"/[\w/<>.-]*", heading.replace("\\", ""))}
    rules = create_app(Settings.from_env({"DATA_DIR": str(tmp_path)})).url_map.iter_rules()
    # The documentation's own page is told of at the top, the pages for people in dashboard.md; files are no routes.
    is_ours = re.compile(r"(?!docs\.|pages\.|.*static$)").match
    routes = {re.sub(r"<.+?>", "<id>", rule.rule) for rule in rules if is_ours(rule.endpoint)}
    assert routes == documented


if __name__ == "__main__":
    README.write_text(with_settings_table(README.read_text()))
