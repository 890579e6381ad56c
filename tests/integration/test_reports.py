"""Uploads become jobs and jobs become reports, also where builders die on the way."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from flask import Flask
from PIL import Image as Picture
from sqlalchemy import func, select, update

from app import processors
from app.domain import builder, leases, purges, report_files, reports, submissions, transactions, unpacking, uploads
from app.domain.jobs import Job
from app.errors import ConflictError, DecodeError, NotFoundError, StorageError, TooLargeError
from app.extensions import storage
from app.models import Image, ImageState, JobState, Report, ReportState, Upload, UploadFile, UploadState
from app.processors import running
from app.sql import db_now
from testbed.processes import wait_for
from testbed.s3 import ACCESS_KEY, S3, SECRET_KEY
from tests.pictures import LIMITS, encoded, photo, plain

CAT, CUP = photo("chelsea.png"), photo("coffee.png")


@pytest.fixture
def app(make_app: Callable[..., Flask], tmp_path: Path) -> Flask:
    return make_app(STORAGE_URL=(tmp_path / "files").as_uri())


def zipped(**files: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, body in files.items():
            archive.writestr(name.replace("__", "/") + ".png", body)
    return file.getvalue()


def upload(*files: tuple[str, bytes], email: str = "") -> str:
    upload_id = uploads.new_id()
    for name, body in files:
        uploads.add(upload_id, name, io.BytesIO(body))
    uploads.hand_in(upload_id, email)
    return upload_id


def settle(job_id: int) -> None:
    """Have the registered processors work on the images of a job, and write what they found, as a worker does."""
    wanted = processors.find(reports.PROCESSORS)

    def images(session: Any) -> Sequence[Image]:
        of_job = (Image.job_id == job_id) & (Image.state == ImageState.OPEN)
        return session.scalars(select(Image).where(of_job).order_by(Image.seq)).all()  # type: ignore[no-any-return]

    for image in transactions.read(images):
        (worked,) = running.work_on([storage.read(str(image.storage_key))], wanted, LIMITS)
        values: dict[str, Any] = {"settled_at": db_now()}
        if isinstance(worked, running.Worked):
            values |= worked.measures | {"state": ImageState.DONE, "results": json.loads(worked.results or "{}")}
        else:
            values |= {"state": ImageState.FAILED, "error_code": worked.code, "error_message": worked.message}
        of_image = (Image.job_id == job_id) & (Image.seq == image.seq)
        transactions.run(lambda session: session.execute(update(Image).where(of_image).values(**values)))  # noqa: B023

    def close(session: Any) -> None:
        states = dict(
            session.execute(select(Image.state, func.count()).where(Image.job_id == job_id).group_by(Image.state)).all()
        )
        failed = states.get(ImageState.FAILED, 0)
        session.execute(
            update(Job)
            .where(Job.id == job_id)
            .values(
                state=JobState.FAILED if failed else JobState.COMPLETED,
                images_open=0,
                images_done=states.get(ImageState.DONE, 0),
                images_failed=failed,
                started_at=db_now(),
                finished_at=db_now(),
            )
        )

    transactions.run(close)


def build() -> None:
    assert reports.wake() == 1
    assert reports.build_next(lambda: False)


def job_of(upload_id: str) -> int:
    assert unpacking.open_next()
    job_id = submissions.get(upload_id).upload.job_id
    assert job_id is not None
    return job_id


def contents(job_id: int) -> zipfile.ZipFile:
    report = reports.get(job_id)
    assert report.state is ReportState.DONE, report.error_message
    body = storage.read(str(report.zip_storage_key))
    assert len(body) == report.zip_bytes
    return zipfile.ZipFile(io.BytesIO(body))


def test_photos_become_a_zip_with_boxes_workbook_csv_and_json(app: Flask) -> None:
    with app.app_context():
        upload_id = upload(
            ("cat.png", CAT), ("shelf.zip", zipped(a__cup=CUP, a__cat=CAT)), ("empty.png", encoded(plain("grey")))
        )
        job_id = job_of(upload_id)
        settle(job_id)
        build()
        archive = contents(job_id)
        names = archive.namelist()
        assert names == [
            f"{upload_id}.xlsx",
            f"{upload_id}.csv",
            f"{upload_id}.json",
            "images/00001-cat.jpg",
            "images/00002-cup.jpg",
            "images/00003-cat.jpg",
            "images/00004-empty.png",
        ]
        assert archive.testzip() is None
        sheet = openpyxl.load_workbook(io.BytesIO(archive.read(f"{upload_id}.xlsx")))["Detections"]
        rows = list(sheet.iter_rows(values_only=True))
        assert [row[:4] for row in rows[1:]] == [
            ("cat.png", 1, "found", "Cat"),
            ("a/cup.png", 2, "found", "Coffee cup"),
            ("a/cat.png", 3, "found", "Cat"),
            ("empty.png", 4, "nothing found", None),
        ]
        assert {cell.hyperlink.target for cell in sheet["A"][1:]} <= set(names)
        with Picture.open(io.BytesIO(archive.read("images/00001-cat.jpg"))) as drawn:
            assert (drawn.format, max(drawn.size)) == ("JPEG", 640)
        assert archive.read("images/00004-empty.png") == encoded(plain("grey"))
        lines = list(csv.reader(io.StringIO(archive.read(f"{upload_id}.csv").decode("utf-8-sig"))))
        assert len(lines) == 5
        summary = json.loads(archive.read(f"{upload_id}.json"))["summary"]
        assert {"label": "Cat", "detections": 2, "photos": 2} in summary["label"]
        report = reports.get(job_id)
        assert storage.read(str(report.xlsx_storage_key)) == archive.read(f"{upload_id}.xlsx")
        left = {stat.key for stat in storage.list("reports")}
        assert left == {
            *(report.zip_storage_key, report.xlsx_storage_key, report.csv_storage_key, report.json_storage_key)
        }


def test_a_photo_that_cannot_be_read_has_its_row_and_no_link(app: Flask) -> None:
    with app.app_context():
        with Picture.open(io.BytesIO(CAT)) as image:
            cut = encoded(image.convert("RGB"), "JPEG")[:9000]
        upload_id = upload(("shelf.zip", zipped(good=CAT, cut=cut, page=b"<html>")))
        job_id = job_of(upload_id)
        settle(job_id)
        build()
        report = json.loads(contents(job_id).read(f"{upload_id}.json"))
        assert [(image["image"], image["status"], bool(image["file"])) for image in report["images"]] == [
            ("good.png", "found", True),
            ("cut.png", "failed", True),
            ("page.png", "failed", False),
        ]
        assert report["images"][1]["error"].startswith("broken_pixels")
        assert report["images"][2]["error"].startswith("not_an_image")


class Died(BaseException):
    """Stands for a SIGKILL: nothing behind it is done."""


def test_a_builder_that_dies_is_followed_by_one_that_goes_on_from_there(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with app.app_context():
        monkeypatch.setattr(report_files, "PHOTOS_A_PAGE", 2)
        upload_id = upload(*((f"{number}.png", CAT) for number in range(5)))
        job_id = job_of(upload_id)
        settle(job_id)
        drawn: list[int] = []
        draw_one = report_files.Builder._draw_one

        def dying(self: Any, image: Image, found: Any) -> None:
            if len(drawn) == 3:
                drawn.append(-1)
                raise Died
            drawn.append(image.seq)
            draw_one(self, image, found)

        monkeypatch.setattr(report_files.Builder, "_draw_one", dying)
        reports.wake()
        with pytest.raises(Died):
            reports.build_next(lambda: False)
        assert not reports.build_next(lambda: False)  # its lease holds
        transactions.run(lambda session: session.execute(update(Report).values(due_at=db_now(-1))))
        assert reports.build_next(lambda: False)
        assert drawn == [0, 1, 2, -1, 2, 3, 4]
        assert len(contents(job_id).namelist()) == 3 + 5


def test_a_builder_that_wakes_up_late_writes_nothing(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    with app.app_context():
        job_id = job_of(upload(("cat.png", CAT)))
        settle(job_id)
        reports.wake()
        late = leases.claim(Report)
        assert late is not None
        transactions.run(lambda session: session.execute(update(Report).values(due_at=db_now(-1))))
        assert reports.build_next(lambda: False)
        built = reports.get(job_id)
        report_files.Builder(late, lambda: False)
        with pytest.raises(leases.LeaseLostError):
            report_files.Builder(late, lambda: False).build()
        assert reports.get(job_id).zip_storage_key == built.zip_storage_key
        contents(job_id)


def test_a_builder_that_is_asked_to_end_gives_its_report_back(app: Flask) -> None:
    with app.app_context():
        job_id = job_of(upload(("cat.png", CAT)))
        settle(job_id)
        reports.wake()
        assert reports.build_next(lambda: True)
        assert reports.get(job_id).state is ReportState.BUILDING
        assert reports.build_next(lambda: False)
        contents(job_id)


def test_storage_that_is_away_puts_the_report_off(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    with app.app_context():
        job_id = job_of(upload(("cat.png", CAT)))
        settle(job_id)
        reports.wake()
        full: Any = lambda *_args, **_options: (_ for _ in ()).throw(StorageError("the disk is full"))  # noqa: E731
        with monkeypatch.context() as patched:
            patched.setattr(type(storage._get_current_object()), "put", full)  # type: ignore[attr-defined]
            assert reports.build_next(lambda: False)
        report = reports.get(job_id)
        assert report.state is ReportState.BUILDING
        transactions.run(lambda session: session.execute(update(Report).values(due_at=db_now(-1))))
        assert reports.build_next(lambda: False)
        contents(job_id)


def test_a_report_is_built_anew_when_a_retry_has_ended_its_job_again(app: Flask) -> None:
    with app.app_context():
        job_id = job_of(upload(("cat.png", CAT)))
        settle(job_id)
        build()
        assert reports.wake() == 0
        transactions.run(lambda session: session.execute(update(Job).values(finished_at=db_now(1))))
        build()
        contents(job_id)


def test_a_worker_that_dies_while_unpacking_is_followed_by_one_that_goes_on(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with app.app_context():
        monkeypatch.setattr(unpacking, "ENTRIES_A_WRITE", 2)
        upload_id = upload(("a.zip", zipped(**{f"p{number}": CUP for number in range(5)})))
        unpacked: list[str] = []
        unpack = unpacking._unpacked

        def dying(file: Any, archive: Any, member: Any) -> UploadFile:
            if len(unpacked) == 3:
                unpacked.append("died")
                raise Died
            unpacked.append(member.name)
            return unpack(file, archive, member)

        monkeypatch.setattr(unpacking, "_unpacked", dying)
        with pytest.raises(Died):
            unpacking.open_next()
        assert not unpacking.open_next()
        transactions.run(lambda session: session.execute(update(Upload).values(due_at=db_now(-1))))
        assert unpacking.open_next()
        assert unpacked == ["p0.png", "p1.png", "p2.png", "died", "p2.png", "p3.png", "p4.png"]
        job_id = submissions.get(upload_id).upload.job_id
        images = transactions.read(
            lambda session: session.scalars(select(Image.client_ref).where(Image.job_id == job_id)).all()
        )
        assert list(images) == [f"p{number}.png" for number in range(5)]


def test_a_job_is_created_once_where_the_worker_died_right_behind_it(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with app.app_context():
        upload_id = upload(("cat.png", CAT))
        with monkeypatch.context() as patched:
            patched.setattr(reports, "plan", lambda *_: (_ for _ in ()).throw(Died()))
            with pytest.raises(Died):
                unpacking.open_next()
        transactions.run(lambda session: session.execute(update(Upload).values(due_at=db_now(-1))))
        job_id = job_of(upload_id)
        assert transactions.read(lambda session: session.scalars(select(Job.id)).all()) == [job_id]


def test_a_hostile_archive_is_refused_with_the_reason_and_makes_no_job(app: Flask) -> None:
    with app.app_context():
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("../../evil.png", CAT)
        upload_id = upload(("photos.zip", file.getvalue()))
        assert unpacking.open_next()
        found = submissions.get(upload_id)
        assert found.upload.state is UploadState.REFUSED
        assert found.upload.error_message == "photos.zip: '../../evil.png' leads outside of the archive"
        assert found.job is None


def test_an_archive_without_images_is_refused(app: Flask) -> None:
    with app.app_context():
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("notes.txt", "nothing")
        upload_id = upload(("photos.zip", file.getvalue()))
        unpacking.open_next()
        assert submissions.get(upload_id).upload.error_message == "there is no image in it"


def test_what_is_no_image_is_refused_when_it_is_added(app: Flask) -> None:
    with app.app_context():
        with pytest.raises(DecodeError):
            uploads.add(uploads.new_id(), "page.jpg", io.BytesIO(b"<html>"))
        assert list(storage.list("submissions")) == []


def test_a_submission_that_was_handed_in_takes_no_more_files(app: Flask) -> None:
    with app.app_context():
        upload_id = upload(("cat.png", CAT))
        with pytest.raises(ConflictError):
            uploads.add(upload_id, "late.png", io.BytesIO(CAT))
        assert len(list(storage.list("submissions"))) == 1


def test_a_submission_has_a_bound(make_app: Callable[..., Flask], tmp_path: Path) -> None:
    app = make_app(STORAGE_URL=(tmp_path / "files").as_uri(), UPLOAD_MAX_BYTES=300_000)
    with app.app_context():
        upload_id = uploads.new_id()
        uploads.add(upload_id, "cat.png", io.BytesIO(CAT))
        with pytest.raises(TooLargeError):
            uploads.add(upload_id, "cup.png", io.BytesIO(CUP))


def test_the_builder_thread_takes_everything_to_its_end(app: Flask) -> None:
    with app.app_context():
        upload_id = upload(("cat.png", CAT))
        builder.start()
        try:
            job_id = wait_for(lambda: submissions.get(upload_id).upload.job_id, 10, what="the job")
            settle(job_id)
            builder.ring()
            wait_for(lambda: reports.get(job_id).state is ReportState.DONE, 20, what="the report")
        finally:
            builder.stop()
            builder.join()


def test_results_leave_with_their_job(app: Flask) -> None:
    with app.app_context():
        upload_id = upload(("cat.png", CAT), ("shelf.zip", zipped(a=CUP)))
        job_id = job_of(upload_id)
        settle(job_id)
        build()
        transactions.run(lambda session: session.execute(update(Job).values(finished_at=db_now(-3 * 86_400))))
        assert [job.id for job in purges.find(2)] == [job_id]
        assert purges.purge(2) == 1
        for table in (Upload, UploadFile, Report):
            assert transactions.read(lambda session: session.scalar(select(func.count()).select_from(table))) == 0  # noqa: B023
        assert [*storage.list("submissions"), *storage.list("reports")] == []
        with pytest.raises(NotFoundError):
            submissions.get(upload_id)


def test_what_was_never_handed_in_or_refused_is_forgotten_after_some_days(app: Flask) -> None:
    with app.app_context():
        left, fresh, queued = uploads.new_id(), uploads.new_id(), upload(("cat.png", CAT))
        refused = upload(("a.zip", zipped(inner=zipped(a=CAT))))
        for upload_id in (left, fresh):
            uploads.add(upload_id, "cat.png", io.BytesIO(CAT))
        while unpacking.open_next():
            pass
        old = update(Upload).where(Upload.id.in_([left, refused, queued])).values(created_at=db_now(-8 * 86_400))
        transactions.run(lambda session: session.execute(old))
        assert uploads.forget() == 2
        assert uploads.forget() == 0
        ids = transactions.read(lambda session: set(session.scalars(select(Upload.id)).all()))
        assert ids == {fresh, queued}
        assert len(list(storage.list("submissions"))) == 2


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_bucket_does_as_well_as_a_folder(make_app: Callable[..., Flask], s3: S3) -> None:
    app = make_app(STORAGE_URL=s3.url("reports"), AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY)
    with app.app_context():
        # Past the size from which a bucket is given files in parts.
        noise = [encoded(Picture.effect_noise((1400, 1400), 90 + number), "PNG") for number in range(6)]
        assert sum(map(len, noise)) > 10_000_000
        upload_id = upload(("cat.png", CAT), ("large.zip", zipped(**{f"n{at}": body for at, body in enumerate(noise)})))
        job_id = job_of(upload_id)
        settle(job_id)
        build()
        archive = contents(job_id)
        assert archive.testzip() is None
        assert len(archive.namelist()) == 3 + 7
