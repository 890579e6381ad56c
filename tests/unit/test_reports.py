"""What people are handed: photos with boxes drawn, the workbook, the CSV, the JSON, and the zip around them."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from PIL import Image, ImageChops
from PIL.ExifTags import IFD, Base

from app.errors import DecodeError
from app.reports import archives, drawing, tables, workbooks
from app.reports.fonts import IN_NO_FONT, OF_SYSTEM, OURS, Fonts
from app.reports.rows import Photo, file_name
from app.reports.workbooks import COLUMNS, Workbook
from tests.pictures import LIMITS, encoded, photo, plain, with_orientation

CUP = {"label": "Coffee cup", "score": 0.5635, "box": [171.4, 20.8, 248.1, 303.6]}
CAT = {"label": "Cat", "score": 0.8472, "box": [3.0, 0.8, 420.6, 298.8]}
EXIF = {
    "make": "Canon",
    "model": "EOS 5D",
    "taken_at": "2020-09-02T00:00:53",
    "iso": 400,
    "flash_fired": True,
    "gps": {"latitude": 19.07, "longitude": -72.86},
}
PHOTOS = [
    Photo(0, "cup & cat.jpg", "images/00001-cup_cat.jpg", "", 600, 400, "", "", [CUP, CAT], EXIF),
    Photo(1, "empty.jpg", "images/00002-empty.jpg", "", 640, 480, "cam 7", "2020-09-03 10:00"),
    Photo(2, "=cmd|' /C calc'!A0", "", "broken_image: The header of the image cannot be read."),
]


def opened(body: bytes) -> Image.Image:
    return Image.open(io.BytesIO(body))


def book_of(tmp_path: Path, photos: list[Photo]) -> Any:
    book = Workbook(tmp_path / "report.xlsx", "report")
    for each in photos:
        book.add(each)
    book.close()
    return openpyxl.load_workbook(tmp_path / "report.xlsx")


def test_boxes_are_drawn_in_the_labels_colour_where_the_thing_is() -> None:
    drawn = opened(drawing.annotated(photo("coffee.png"), [CUP], LIMITS))
    with opened(photo("coffee.png")) as original:
        scale = drawn.width / original.width
        changed = ImageChops.difference(drawn, original.convert("RGB").resize(drawn.size, Image.Resampling.LANCZOS))
    assert drawn.format == "JPEG"
    left, top, width, height = (edge * scale for edge in CUP["box"])  # type: ignore[attr-defined]
    strong = changed.convert("L").point(lambda level: 255 if level > 60 else 0).getbbox()
    assert strong is not None
    assert strong[0] == pytest.approx(left, abs=4)
    assert strong[2] == pytest.approx(left + width, abs=4)
    assert strong[3] == pytest.approx(top + height, abs=4)
    red, green, blue = drawn.getpixel((round(left) + 1, round(top + height / 2)))  # type: ignore[misc]
    wanted = drawing.colour_of("Coffee cup")
    assert (red, green, blue) == pytest.approx([int(wanted[at : at + 2], 16) for at in (1, 3, 5)], abs=70)


@pytest.mark.parametrize("size", [(20, 15), (300, 200), (4000, 3000), (30, 2000)])
def test_labels_can_be_read_at_any_size(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[tuple[str, float, tuple[float, ...]]] = []
    draw = drawing.ImageDraw.ImageDraw.text

    def noting(self: Any, place: Any, text: str, *, font: Any, fill: str, anchor: str) -> None:
        texts.append((text, font.size, self.textbbox(place, text, font=font, anchor=anchor)))
        draw(self, place, text, font=font, fill=fill, anchor=anchor)

    monkeypatch.setattr(drawing.ImageDraw.ImageDraw, "text", noting)
    found = {"label": "Box", "score": 0.5, "box": [size[0] * 0.8, 0, size[0] * 0.2, size[1]]}
    with opened(drawing.annotated(encoded(plain("grey", size=size)), [found], LIMITS)) as image:
        width, height = image.size
    ((text, points, place),) = texts
    assert text == "Box 0.50"
    assert points >= max(14, max(width, height) // 46)
    assert place[0] >= 0
    assert place[1] >= 0
    assert place[3] <= height
    assert max(width, height) >= 640


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_drawn_upright(orientation: int) -> None:
    with opened(photo("chelsea.png")) as image:
        upright = image.convert("RGB").resize((800, 600))
    drawn = opened(drawing.annotated(with_orientation(upright, orientation), [], LIMITS))
    assert drawn.size == (800, 600)
    assert drawn.getexif().get(0x0112, 1) == 1
    difference = ImageChops.difference(drawn.resize((80, 60)), upright.resize((80, 60))).convert("L")
    assert sum(level * count for level, count in enumerate(difference.histogram())) / 4800 < 4


@pytest.mark.parametrize("label", ["Кошка", "γάτα", "बिल्ली", "猫", "ねこ", "고양이", "Kočka", "cat 猫"])
def test_labels_are_drawn_in_the_letters_they_are_written_in(label: str) -> None:
    """And not as the boxes that a font draws for what it does not have, nor all alike."""
    fonts = Fonts()
    assert fonts.lacks(label) == ""
    drawn = set()
    for letters in (label, IN_NO_FONT * len(label), label[::-1] + "."):
        canvas = Image.new("L", (400, 60), 255)
        fonts.line(letters, 30).draw(drawing.ImageDraw.Draw(canvas), (10, 45), "black")
        assert canvas.getextrema()[0] < 64
        drawn.add(canvas.tobytes())
    assert len(drawn) == 3


def test_a_font_of_ones_own_is_asked_first(tmp_path: Path) -> None:
    [system] = [path for path in OF_SYSTEM if path.exists()][:1]
    own = tmp_path / "own.ttf"
    own.write_bytes(system.read_bytes())
    runs = Fonts.preferring(str(own)).line("猫é", 20).runs
    assert Path(str(runs[0][1].path)) == own
    for missing in (tmp_path / "none.ttf", Path(__file__)):
        runs = Fonts.preferring(str(missing)).line("cat", 20).runs
        assert [Path(str(font.path)) for _, font in runs] == [OURS]


def test_an_annotated_photo_keeps_what_the_camera_wrote() -> None:
    """Time, place and camera; but it lies upright now, and its size is another."""
    exif = Image.Exif()
    exif[Base.Orientation], exif[Base.Make], exif[Base.Model] = 6, "Canon", "EOS 5D"
    inner = exif.get_ifd(IFD.Exif)
    inner |= {Base.DateTimeOriginal: "2020:09:02 00:00:53", Base.ExifImageWidth: 9, Base.MakerNote: b"\0" * 50}
    gps = exif.get_ifd(IFD.GPSInfo)
    gps |= {1: "N", 2: (19.0, 4.0, 12.0), 3: "E", 4: (72.0, 51.0, 36.0)}
    body = encoded(plain("grey", size=(800, 600)), "JPEG", exif=exif.tobytes())
    with opened(drawing.annotated(body, [CUP], LIMITS)) as drawn:
        found = drawn.getexif()
        assert drawn.size == (600, 800)
        assert (found[Base.Orientation], found[Base.Make], found[Base.Model]) == (1, "Canon", "EOS 5D")
        kept = found.get_ifd(IFD.Exif)
        assert kept[Base.DateTimeOriginal] == "2020:09:02 00:00:53"
        assert (kept[Base.ExifImageWidth], kept[Base.ExifImageHeight]) == (600, 800)
        assert Base.MakerNote not in kept
        assert found.get_ifd(IFD.GPSInfo) == {1: "N", 2: (19.0, 4.0, 12.0), 3: "E", 4: (72.0, 51.0, 36.0)}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0MM\0*\0\0\xff\xff"])
def test_a_photo_whose_exif_is_broken_is_drawn_without(exif: bytes) -> None:
    body = encoded(plain("grey", size=(800, 600)), "JPEG", exif=exif)
    with opened(drawing.annotated(body, [CUP], LIMITS)) as drawn:
        drawn.load()
        assert drawn.size == (800, 600)


def test_labels_of_neighbours_do_not_cover_each_other() -> None:
    boxes = [(0.0, 0.0, 0.0, 0.0)][:0]
    for _ in range(4):
        boxes.append(drawing._free_place((100, 100, 300, 300), 80, 20, (640, 480), boxes))
    assert len(set(boxes)) == 4
    assert not any(drawing._overlap(one, other) for one in boxes for other in boxes if one != other)


def test_what_cannot_be_decoded_is_not_drawn() -> None:
    body = photo("coffee.png")
    with pytest.raises(DecodeError):
        drawing.annotated(body[: len(body) // 2], [CUP], LIMITS)


def test_the_workbook_has_a_row_a_detection_and_one_for_each_photo_without(tmp_path: Path) -> None:
    sheet = book_of(tmp_path, PHOTOS)["Detections"]
    header, *rows = [[cell.value for cell in row] for row in sheet.iter_rows()]
    assert tuple(header) == COLUMNS
    shown = [dict(zip(header, row, strict=True)) for row in rows]
    assert [(row["image"], row["status"], row["label"], row["score"]) for row in shown] == [
        ("cup & cat.jpg", "found", "Coffee cup", 0.5635),
        ("cup & cat.jpg", "found", "Cat", 0.8472),
        ("empty.jpg", "nothing found", None, None),
        ("=cmd|' /C calc'!A0", "failed", None, None),
    ]
    assert [shown[0][name] for name in ("left", "top", "width", "height")] == CUP["box"]
    assert (shown[0]["exif_iso"], shown[0]["exif_flash_fired"], shown[1]["gps_longitude"]) == (400, True, -72.86)
    assert (shown[0]["camera"], shown[2]["camera"], shown[2]["taken"]) == ("Canon EOS 5D", "cam 7", "2020-09-03 10:00")
    assert shown[3]["error"].startswith("broken_image")
    links = [cell.hyperlink.target if cell.hyperlink else None for cell in sheet["A"][1:]]
    assert links == ["images/00001-cup_cat.jpg"] * 2 + ["images/00002-empty.jpg", None]


def test_no_cell_of_the_workbook_is_a_formula(tmp_path: Path) -> None:
    for sheet in book_of(tmp_path, PHOTOS):
        assert {cell.data_type for row in sheet.iter_rows() for cell in row} <= {"s", "n", "b", "inlineStr"}
    with zipfile.ZipFile(tmp_path / "report.xlsx") as archive:
        assert not any(b"<f>" in archive.read(name) for name in archive.namelist() if "sheet" in name)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_what_begins_like_a_formula_is_text_in_every_cell(tmp_path: Path, start: str) -> None:
    """A file's name, a camera's id, a time, a label, an error, and what a camera wrote into EXIF."""
    evil = f'{start}HYPERLINK("http://127.0.0.2",1)'
    found = CAT | {"label": evil}
    shown = Photo(0, evil, "images/00001.jpg", "", 600, 400, evil, evil, [found], EXIF | {"make": evil, "model": evil})
    failed = Photo(1, evil, "", evil, camera=evil)
    book = book_of(tmp_path, [shown, failed])
    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row]
    assert {cell.data_type for cell in cells} <= {"s", "n", "b", "inlineStr"}
    assert sum("HYPERLINK" in str(cell.value) for cell in cells) >= 10
    with zipfile.ZipFile(tmp_path / "report.xlsx") as archive:
        assert not any(b"<f" in archive.read(name) for name in archive.namelist() if "worksheets/sheet" in name)
        links = b"".join(archive.read(name) for name in archive.namelist() if name.endswith(".rels"))
    assert b"127.0.0.2" not in links
    rows = list(csv.reader(io.StringIO(b"".join(tables.csv_pieces([shown, failed])).decode("utf-8-sig"))))
    assert not [cell for row in rows for cell in row if cell.startswith(start) and "HYPERLINK" in cell]


def test_the_summary_counts_photos_labels_and_cameras(tmp_path: Path) -> None:
    rows = [[cell for cell in row if cell is not None] for row in book_of(tmp_path, PHOTOS)["Summary"].values]
    assert ["all", 3] in rows
    assert ["found", 1] in rows
    assert ["nothing found", 1] in rows
    assert ["failed", 1] in rows
    assert ["Cat", 1, 1] in rows
    assert ["Canon EOS 5D", "2020-09-02", 1, 2] in rows
    assert ["cam 7", "2020-09-03", 1, 0] in rows


def test_past_the_links_that_excel_allows_another_sheet_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbooks, "ROWS_A_SHEET", 10)
    book = book_of(tmp_path, [Photo(seq, f"{seq}.jpg", f"images/{seq}.jpg") for seq in range(25)])
    assert [book[name].max_row for name in ("Detections", "Detections 2", "Detections 3")] == [11, 11, 6]


def test_an_empty_report_is_still_a_workbook(tmp_path: Path) -> None:
    assert list(book_of(tmp_path, [])["Detections"].values) == [COLUMNS]


def test_the_csv_has_the_rows_of_the_workbook_and_runs_nothing() -> None:
    text = b"".join(tables.csv_pieces(PHOTOS)).decode("utf-8-sig")
    header, *rows = list(csv.reader(io.StringIO(text)))
    assert tuple(header) == COLUMNS
    assert [row[0] for row in rows] == ["cup & cat.jpg", "cup & cat.jpg", "empty.jpg", "'=cmd|' /C calc'!A0"]
    assert rows[0][3:9] == ["Coffee cup", "0.5635", "171.4", "20.8", "248.1", "303.6"]


def test_the_json_has_the_photos_and_the_summary() -> None:
    report = json.loads(b"".join(tables.json_pieces(PHOTOS)))
    assert [image["status"] for image in report["images"]] == ["found", "nothing found", "failed"]
    assert report["images"][0]["detections"] == [CUP, CAT]
    assert report["images"][0]["exif"]["gps"]["latitude"] == 19.07
    assert {"photos": "all", "count": 3} in report["summary"]["photos"]
    assert json.loads(b"".join(tables.json_pieces([])))["images"] == []


def test_the_zip_is_made_in_pieces_and_opens_whole() -> None:
    big = bytes(range(256)) * 4096
    entries = [
        archives.Entry("images/00001.jpg", (big[at : at + 70_000] for at in range(0, len(big), 70_000)), len(big)),
        archives.Entry("report.csv", iter([b"a,b\n"] * 1000), 4000),
    ]
    pieces = list(archives.pieces(entries))
    assert len(pieces) > 3
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["images/00001.jpg", "report.csv"]
        assert archive.read("images/00001.jpg") == big
        assert archive.getinfo("report.csv").compress_size < 400


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("IMG_1.JPG", "images/00001-IMG_1.jpg"),
        ("../../etc/passwd", "images/00001-passwd.jpg"),
        ("..\\..\\boot.ini", "images/00001-boot.jpg"),
        ("a/b/con.png", "images/00001-_con.jpg"),
        ("Käse & Brot.jpeg", "images/00001-Käse_Brot.jpg"),
        ("", "images/00001.jpg"),
        ("...", "images/00001.jpg"),
        ("a\x00b\n.jpg", "images/00001-a_b.jpg"),
        ("x" * 500 + ".jpg", "images/00001-" + "x" * 80 + ".jpg"),
    ],
)
def test_names_in_the_zip_are_safe_to_unpack_and_tell_the_photo(name: str, file: str) -> None:
    assert file_name(0, name, ".jpg") == file
