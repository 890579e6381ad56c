"""The books of the running system: whether counters, chunks and images agree. It reads and never mends.

All of it is read from one snapshot, since jobs move meanwhile. The jobs are taken in ranges of about half a million
images, so that no statement grows with the whole database; ranges join up, so rows that belong to no job are seen too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, and_, case, cast, exists, func, literal, or_, select
from sqlalchemy.orm import Session

from app.domain import outbox, transactions, visit_sums
from app.domain.cursors import MOST_NUMBER
from app.extensions import settings
from app.models import Chunk, Image, ImageState, Job, JobState, Visit, VisitState
from app.sql import db_now

IMAGES_A_RANGE = 500_000
# Where everything is wrong nobody reads on: of each kind so many are told.
MOST_A_KIND = 20
# A job whose work is due and that nobody has taken anything of for so many leases is not waiting for its turn.
STALLED_LEASES = 10
LEAST_STALLED_SECONDS = 600.0
STALLED = "job_stalled"
SUMS = "visit_sums"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be; ``job_id`` is None where it is not about a job."""

    code: str
    job_id: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Audit:
    jobs: int
    images: int
    findings: tuple[Finding, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def run(job_id: int | None = None) -> Audit:
    """Check all jobs, or one. Raises UnavailableError; takes no locks and writes nothing."""
    return transactions.snapshot(lambda session: _audit(session, job_id))


def _audit(session: Session, job_id: int | None) -> Audit:
    query = select(Job.id, Job.images_total).order_by(Job.id)
    jobs = session.execute(query if job_id is None else query.where(Job.id == job_id)).all()
    ranges = _ranges(jobs) if job_id is None else [(job_id, job_id)]
    findings: dict[str, list[Finding]] = {}
    for first, last in ranges:
        for finding in _check(session, first, last):
            findings.setdefault(finding.code, []).append(finding)
    if job_id is None:
        findings |= {SUMS: list(islice(_visit_sums(session), MOST_A_KIND))}
    told = tuple(finding for kind in findings.values() for finding in kind[:MOST_A_KIND])
    return Audit(len(jobs), sum(job.images_total for job in jobs), told)


def _visit_sums(session: Session) -> Iterator[Finding]:
    """Sums of visits are of no one job."""
    for key, visits, noted in visit_sums.differences(session):
        of = f"visits of store {key.store_id} on {key.day} that are {key.state.value}"
        found, said = ("/".join(map(str, counts)) for counts in (visits, noted))
        yield Finding(SUMS, None, f"{of}: {found} visits/images/failed/perimeter, their sums say {said}: run recount")
    for cell, visits, noted in visit_sums.torn(session):
        found, said = ("/".join(map(str, counts)) for counts in (visits, noted))
        of = f"the sum by {cell.grain.value} of {cell.store_id or 'all stores'} from {cell.first_day}"
        yield Finding(SUMS, None, f"{of} ({cell.state.value}) says {said}, its days come to {found}: run recount")


def _ranges(jobs: Sequence[Any]) -> list[tuple[int, int]]:
    ranges, first, images = [], -MOST_NUMBER, 0
    for job in jobs:
        images += job.images_total
        if images >= IMAGES_A_RANGE:
            ranges.append((first, job.id))
            first, images = job.id + 1, 0
    return [*ranges, (first, MOST_NUMBER)]


def _check(session: Session, first: int, last: int) -> Iterator[Finding]:
    for query in (
        _jobs_against_images(first, last),
        _visits_against_images(first, last),
        _chunks_against_images(first, last),
    ):
        for row in session.execute(query):
            yield from _told(row)
    for code, message, query in _plain_checks(first, last):
        for row in session.execute(query.limit(MOST_A_KIND)):
            yield Finding(code, row.job_id, f"job {row.job_id}: {message.format_map(row._mapping)}")


def _told(row: Any) -> Iterator[Finding]:
    """A row has a column ``is_<code>`` for each finding that it may be, and what their sentences need."""
    for name, is_wrong in row._mapping.items():
        if name.startswith("is_") and is_wrong:
            code = name.removeprefix("is_")
            yield Finding(code, row.job_id, f"job {row.job_id}: {SENTENCES[code].format_map(row._mapping)}")


# By code: what is wrong, in words for whoever is called at night.
SENTENCES = {
    "job_rows": "it has {rows} images, its row says {images_total}",
    "job_counters": "its row counts {counted} images open/done/failed/cancelled, its images say {found}",
    "job_open": "it is {state}, yet {open} of its images are open",
    "job_not_closed": "none of its images is open, yet it was not closed",
    "job_state": "its state {state} does not fit its counters {counted} or its finish time {finished_at}",
    "job_visits": "it has {visits} visits, its row says {visits_total}",
    "image_half_settled": "{half} images have the columns of both an open and a settled image",
    "visit_counters": "visit {seq} counts {counted} images in all/open/failed/cancelled, its images say {found}",
    "visit_perimeter": "visit {seq} has the perimeter {perimeter}, its images sum up to {sum}: one was counted twice?",
    "visit_state": "visit {seq} is {state} with {images_open} images open",
    "chunk_forgotten": "chunk {seq} holds {open} open images and is never due",
    "chunk_left": "chunk {seq} is due at {due_at} and the job is {state}",
    "images_uncovered": "{open} of its images are open, its due chunks hold {covered}",
}


def _sum(condition: ColumnElement[bool], of: Any = 1) -> Any:
    return func.coalesce(func.sum(case((condition, of), else_=0)), 0)


def _texts(*numbers: Any) -> Any:
    """The numbers as one text, ``1/2/3``."""
    text: Any = literal("")
    for number in numbers:
        text = text.concat(number) if number is numbers[0] else text.concat("/").concat(number)
    return text


def _image_sums(first: int, last: int, *by: Any) -> Any:
    """What the images of each job, or visit, come to; one pass over the range."""
    is_open = Image.state == ImageState.OPEN
    is_half = or_(
        is_open != Image.settled_at.is_(None),
        and_(Image.state == ImageState.DONE, or_(Image.perimeter.is_(None), Image.error_code.is_not(None))),
        and_(Image.state == ImageState.FAILED, Image.error_code.is_(None)),
        and_(is_open, Image.perimeter.is_not(None)),
    )
    return (
        select(
            *by,
            func.count().label("rows"),
            _sum(is_open).label("open"),
            *(_sum(Image.state == state).label(state.value) for state in ImageState if state != ImageState.OPEN),
            _sum(is_half).label("half"),
            func.coalesce(func.sum(Image.perimeter), 0).label("perimeter"),
        )
        .where(Image.job_id.between(first, last))
        .group_by(*by)
        .subquery()
    )


def _jobs_against_images(first: int, last: int) -> Any:
    images = _image_sums(first, last, Image.job_id)
    visits = (
        select(Visit.job_id, func.count().label("visits"))
        .where(Visit.job_id.between(first, last))
        .group_by(Visit.job_id)
        .subquery()
    )
    chunks = _chunk_images(first, last)
    cover = (
        select(chunks.c.job_id, _sum(chunks.c.due_at.is_not(None), chunks.c.open).label("covered"))
        .group_by(chunks.c.job_id)
        .subquery()
    )
    counters = (Job.images_open, Job.images_done, Job.images_failed, Job.images_cancelled)
    found = [func.coalesce(images.c[name], 0) for name in ("open", "done", "failed", "cancelled")]
    rows, open_, covered = func.coalesce(images.c.rows, 0), found[0], func.coalesce(cover.c.covered, 0)
    is_ongoing = Job.state == JobState.ONGOING
    is_right_state = case(
        (is_ongoing, Job.finished_at.is_(None)),
        (Job.finished_at.is_(None), False),
        (Job.state == JobState.COMPLETED, Job.images_done == Job.images_total),
        (Job.state == JobState.FAILED, Job.images_failed > 0),
        else_=Job.images_cancelled > 0,
    )
    wrong = {
        "is_job_rows": rows != Job.images_total,
        "is_job_counters": or_(*(a != b for a, b in zip(counters, found, strict=True))),
        "is_job_open": and_(Job.state != JobState.ONGOING, open_ > 0),
        "is_job_not_closed": and_(is_ongoing, open_ == 0),
        "is_job_state": is_right_state.is_(False),
        "is_job_visits": func.coalesce(visits.c.visits, 0) != Job.visits_total,
        "is_image_half_settled": func.coalesce(images.c.half, 0) > 0,
        "is_images_uncovered": open_ != covered,
    }
    return (
        select(Job.id.label("job_id"), Job.state, Job.images_total, Job.visits_total, Job.finished_at)
        .add_columns(rows.label("rows"), open_.label("open"), covered.label("covered"))
        .add_columns(func.coalesce(images.c.half, 0).label("half"))
        .add_columns(func.coalesce(visits.c.visits, 0).label("visits"))
        .add_columns(_texts(*counters).label("counted"), _texts(*found).label("found"))
        .add_columns(*(condition.label(name) for name, condition in wrong.items()))
        .outerjoin(images, images.c.job_id == Job.id)
        .outerjoin(visits, visits.c.job_id == Job.id)
        .outerjoin(cover, cover.c.job_id == Job.id)
        .where(Job.id.between(first, last), or_(*wrong.values()))
        .limit(MOST_A_KIND)
    )


def _visits_against_images(first: int, last: int) -> Any:
    images = _image_sums(first, last, Image.job_id, Image.visit_seq)
    counters = (Visit.images_total, Visit.images_open, Visit.images_failed, Visit.images_cancelled)
    found = [func.coalesce(images.c[name], 0) for name in ("rows", "open", "failed", "cancelled")]
    perimeter = func.coalesce(images.c.perimeter, 0)
    is_open = Visit.state == VisitState.OPEN
    wrong = {
        "is_visit_counters": or_(*(a != b for a, b in zip(counters, found, strict=True))),
        "is_visit_perimeter": Visit.perimeter != perimeter,
        "is_visit_state": or_(is_open != (Visit.images_open > 0), is_open != Visit.settled_at.is_(None)),
    }
    return (
        select(Visit.job_id, Visit.seq, Visit.state, Visit.images_open, Visit.perimeter, perimeter.label("sum"))
        .add_columns(_texts(*counters).label("counted"), _texts(*found).label("found"))
        .add_columns(*(condition.label(name) for name, condition in wrong.items()))
        .outerjoin(images, and_(images.c.job_id == Visit.job_id, images.c.visit_seq == Visit.seq))
        .where(Visit.job_id.between(first, last), or_(*wrong.values()))
        .limit(MOST_A_KIND)
    )


def _open_runs(first: int, last: int) -> Any:
    """Stretches of neighbouring open images: few, so that matching them with chunks costs no pass for each chunk."""
    # MySQL's is unsigned, and a difference of it below zero an error.
    nth = cast(func.row_number().over(partition_by=Image.job_id, order_by=Image.seq), BigInteger)
    is_wanted = and_(Image.job_id.between(first, last), Image.state == ImageState.OPEN)
    numbered = select(Image.job_id, Image.seq, (Image.seq - nth).label("run")).where(is_wanted).subquery()
    return (
        select(numbered.c.job_id, func.min(numbered.c.seq).label("first"), func.max(numbered.c.seq).label("last"))
        .group_by(numbered.c.job_id, numbered.c.run)
        .subquery()
    )


def _chunk_images(first: int, last: int) -> Any:
    """How many open images each chunk holds."""
    runs, chunk_last = _open_runs(first, last), Chunk.first_image + Chunk.images - 1
    start = case((runs.c.first > Chunk.first_image, runs.c.first), else_=Chunk.first_image)
    end = case((runs.c.last < chunk_last, runs.c.last), else_=chunk_last)
    is_touching = and_(runs.c.job_id == Chunk.job_id, runs.c.first <= chunk_last, runs.c.last >= Chunk.first_image)
    return (
        select(Chunk.job_id, Chunk.seq, Chunk.due_at, _sum(runs.c.first.is_not(None), end - start + 1).label("open"))
        .outerjoin(runs, is_touching)
        .where(Chunk.job_id.between(first, last))
        .group_by(Chunk.job_id, Chunk.seq, Chunk.due_at)
        .subquery()
    )


def _chunks_against_images(first: int, last: int) -> Any:
    chunks = _chunk_images(first, last)
    wrong = {
        "is_chunk_forgotten": and_(chunks.c.due_at.is_(None), chunks.c.open > 0),
        "is_chunk_left": and_(chunks.c.due_at.is_not(None), Job.state != JobState.ONGOING),
    }
    return (
        select(chunks.c.job_id, chunks.c.seq, chunks.c.due_at, chunks.c.open, Job.state)
        .add_columns(*(condition.label(name) for name, condition in wrong.items()))
        .join(Job, Job.id == chunks.c.job_id)
        .where(or_(*wrong.values()))
        .limit(MOST_A_KIND)
    )


def _plain_checks(first: int, last: int) -> Iterator[tuple[str, str, Any]]:
    """Checks of one sentence each: code, sentence, query for those that are wrong."""
    yield "chunks_overlap", "chunks {before} and {seq} share images", _overlapping(first, last)
    yield "job_parked", "work is due at {due_at}, and it is parked until {parked_until}", _parked(first, last)
    yield STALLED, "work is due since {due_at}, and nobody took any of it since {claimed_at}", _stalled(first, last)
    for table, name in ((Visit, "visit"), (Chunk, "chunk"), (Image, "image")):
        query: Any = select(table.job_id, func.count().label("rows")).where(
            table.job_id.between(first, last), ~exists().where(Job.id == table.job_id)
        )
        yield f"{name}_orphan", f"there is no such job, yet {{rows}} rows of {name}s", query.group_by(table.job_id)
    has_no_visit = ~exists().where(Visit.job_id == Image.job_id, Visit.seq == Image.visit_seq)
    query = select(Image.job_id, Image.seq, Image.visit_seq)
    query = query.where(Image.job_id.between(first, last), Image.visit_seq.is_not(None), has_no_visit)
    yield "image_without_visit", "image {seq} belongs to visit {visit_seq}, which is not there", query
    yield from outbox.checks(first, last)


def _overlapping(first: int, last: int) -> Any:
    by_job: dict[str, Any] = {"partition_by": Chunk.job_id, "order_by": Chunk.first_image}
    chunks = (
        select(Chunk.job_id, Chunk.seq, Chunk.first_image)
        .add_columns(func.lag(Chunk.seq).over(**by_job).label("before"))
        .add_columns(func.lag(Chunk.first_image + Chunk.images).over(**by_job).label("taken_to"))
        .where(Chunk.job_id.between(first, last))
        .subquery()
    )
    return select(chunks).where(chunks.c.first_image < chunks.c.taken_to)


def _parked(first: int, last: int) -> Any:
    due_at = func.min(Chunk.due_at)
    return (
        select(Chunk.job_id, due_at.label("due_at"), Job.parked_until)
        .join(Job, Job.id == Chunk.job_id)
        .where(Chunk.job_id.between(first, last), Job.state == JobState.ONGOING, Job.parked_until.is_not(None))
        .group_by(Chunk.job_id, Job.parked_until)
        .having(due_at < Job.parked_until)
    )


def find_stalled(session: Session) -> list[Finding]:
    """Jobs with work that is due and that nobody has touched for long."""
    code, sentence, query = next(check for check in _plain_checks(-MOST_NUMBER, MOST_NUMBER) if check[0] == STALLED)
    rows = session.execute(query.limit(MOST_A_KIND))
    return [Finding(code, row.job_id, f"job {row.job_id}: {sentence.format_map(row._mapping)}") for row in rows]


def _stalled(first: int, last: int) -> Any:
    patience = max(LEAST_STALLED_SECONDS, STALLED_LEASES * settings.LEASE_SECONDS)
    due_at, claimed_at = func.min(Chunk.due_at), func.coalesce(func.max(Chunk.claimed_at), Job.created_at)
    return (
        select(Chunk.job_id, due_at.label("due_at"), claimed_at.label("claimed_at"))
        .join(Job, Job.id == Chunk.job_id)
        .where(Chunk.job_id.between(first, last), Job.state == JobState.ONGOING)
        .group_by(Chunk.job_id, Job.created_at)
        .having(due_at < db_now(-patience), claimed_at < db_now(-patience))
    )
