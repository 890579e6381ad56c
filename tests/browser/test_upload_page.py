"""The whole way in a real browser: drop a zip, watch it, see boxes, download, open the workbook."""

from __future__ import annotations

import base64
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import openpyxl
import pytest
from playwright.sync_api import Page, expect

from testbed import processes
from tests.browser.conftest import Site, Watched
from tests.pictures import encoded, photo, plain

# The way of an archive from the drop zone's point of view: as a file that is dragged in from the desktop.
DROP = """async ([name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  const options = { bubbles: true, cancelable: true, dataTransfer: transfer };
  for (const kind of ["dragenter", "dragover", "drop"])
    document.getElementById("drop").dispatchEvent(new DragEvent(kind, options));
}"""


@pytest.fixture(scope="module")
def worker(site: Site) -> Iterator[processes.Process]:
    with processes.worker(site.env | {"RECOVER_SECONDS": "0.5"}, site.folder / "worker.log") as running:
        yield running


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("holiday/cat.png", photo("chelsea.png"))
        zipped.writestr("holiday/cup.png", photo("coffee.png"))
        zipped.writestr("holiday/grey.png", encoded(plain("grey", size=(400, 300))))
        zipped.writestr("holiday/notes.txt", "no photo")
        zipped.writestr("holiday/page.jpg", "<html>")
    return file.getvalue()


def drop(page: Page, name: str, kind: str, body: bytes) -> None:
    page.evaluate(DROP, [name, kind, base64.b64encode(body).decode()])


def test_a_zip_goes_in_and_a_workbook_comes_out(watched: Watched, worker: processes.Process, tmp_path: Path) -> None:
    page = watched.open("/upload")
    watched.expect_accessible()
    watched.expect_fits_a_phone()
    drop(page, "holiday.zip", "application/zip", archive())
    drop(page, "astronaut.png", "image/png", photo("astronaut.png"))
    expect(page.locator("#summary")).to_have_text("2 of 2 files uploaded.")
    expect(page.locator("#list li.stored")).to_have_count(2)
    assert (
        page.locator("#list canvas")
        .nth(1)
        .evaluate("(canvas) => canvas.getContext('2d').getImageData(0, 0, 88, 88).data.some((value) => value > 0)")
    ), "there is no thumbnail"
    watched.expect_accessible()
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", name="Your photos are queued")).to_be_visible()
    watched.expect_accessible()
    address = page.locator("#results").get_attribute("href")
    assert address and re.search(r"/results/[0-9a-f]{32}$", address)
    page.get_by_role("link", name="See how far they are").click()
    expect(page.locator("#stage")).to_have_text("Your results are ready", timeout=60_000)
    expect(page.locator(".photo")).to_have_count(5)
    expect(page.locator(".photo .none")).to_have_count(1)
    boxes = page.locator("g.box")
    expect(boxes).to_have_count(3)
    cat = page.locator('g.box[data-label="Cat"] rect').bounding_box()
    image = page.locator(".photo", has_text="cat.png").locator("img").bounding_box()
    assert cat and image
    assert image["x"] - 1 <= cat["x"] and cat["x"] + cat["width"] <= image["x"] + image["width"] + 1
    assert cat["width"] > image["width"] * 0.8
    expect(page.locator("#detections tbody tr")).to_have_count(3)
    expect(page.get_by_text("1 file in the archives is no image by its name")).to_be_visible()
    watched.expect_accessible()
    watched.expect_fits_a_phone()
    with page.expect_download() as waiting:
        page.get_by_role("link", name=re.compile("Zip with everything")).click()
    waiting.value.save_as(tmp_path / "results.zip")
    with zipfile.ZipFile(tmp_path / "results.zip") as results:
        assert len([name for name in results.namelist() if name.startswith("images/")]) == 4
        (workbook,) = [name for name in results.namelist() if name.endswith(".xlsx")]
        rows = list(openpyxl.load_workbook(io.BytesIO(results.read(workbook)))["Detections"].values)
    assert [row[3] for row in rows[1:]] == ["Cat", "Coffee cup", None, None, "Person"]


def test_boxes_are_shown_by_class_and_by_score(watched: Watched, worker: processes.Process) -> None:
    page = watched.open("/upload")
    page.locator("#picker").set_input_files(
        [
            {"name": "cat.png", "mimeType": "image/png", "buffer": photo("chelsea.png")},
            {"name": "cup.png", "mimeType": "image/png", "buffer": photo("coffee.png")},
        ]
    )
    expect(page.locator("#summary")).to_have_text("2 of 2 files uploaded.")
    page.keyboard.press("Tab")
    page.locator("#go").focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="See how far they are").click()
    expect(page.locator("#stage")).to_have_text("Your results are ready", timeout=60_000)
    visible = page.locator("g.box:not(.is-off)")
    expect(visible).to_have_count(2)
    page.get_by_role("checkbox", name="Cat").uncheck()
    expect(visible).to_have_count(1)
    expect(page.locator("#visible")).to_have_text("1 box is shown.")
    page.get_by_role("checkbox", name="Cat").check()
    page.locator("#threshold").focus()
    page.locator("#threshold").fill("0.7")
    expect(visible).to_have_count(1)
    expect(page.locator("#detections tbody tr:not(.is-off)")).to_have_count(1)
    page.locator("#threshold").fill("0")
    expect(visible).to_have_count(2)


def test_what_is_no_photo_is_refused_beside_its_name(watched: Watched) -> None:
    watched.expected_status.add(400)
    page = watched.open("/upload")
    drop(page, "letter.pdf", "application/pdf", b"%PDF-1.7 hello")
    refused = page.locator("#list li.refused")
    expect(refused).to_contain_text("letter.pdf")
    expect(refused).to_contain_text("a PDF")
    expect(page.locator("#summary")).to_have_text("0 of 1 files uploaded, 1 refused.")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("alert")).to_have_text("Please upload images before starting!")
    watched.expect_accessible()


def test_a_hostile_archive_is_refused_with_the_reason(watched: Watched, worker: processes.Process) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("../evil.png", photo("coffee.png"))
    page = watched.open("/upload")
    drop(page, "holiday.zip", "application/zip", file.getvalue())
    expect(page.locator("#summary")).to_have_text("1 of 1 files uploaded.")
    page.get_by_role("button", name="Start").click()
    page.get_by_role("link", name="See how far they are").click()
    expect(page.get_by_role("alert")).to_contain_text("leads outside of the archive", timeout=30_000)
    watched.expect_accessible()


def test_without_scripts_a_plain_field_does(site: Site, browser: object, worker: processes.Process) -> None:
    context = browser.new_context(java_script_enabled=False)  # type: ignore[attr-defined]
    page = context.new_page()
    page.goto(f"{site.url}/upload")
    page.locator("#picker").set_input_files(
        [{"name": "cat.png", "mimeType": "image/png", "buffer": photo("chelsea.png")}]
    )
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.locator("#summary")).to_have_text("1 file is uploaded.")
    page.get_by_role("button", name="Start").click()
    page.get_by_role("link", name="See how far they are").click()
    expect(page.locator("#stage")).to_be_visible()
    context.close()
