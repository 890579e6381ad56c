"""Reports of jobs: asked for by their owner, due once the job has ended, built by a worker (``report_files``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy import and_, or_, select, update
from sqlalchemy.orm import Session

from app import queues
from app.domain import jobs, leases, report_files, transactions
from app.domain.leases import Lease
from app.errors import ConflictError, NotFoundError, StorageError, StoredFileMissingError
from app.models import Job, JobState, Report, ReportState
from app.processors import detector, exif
from app.sql import db_now

log = structlog.get_logger()

WAITING = "waiting for the job"
BUILDING = "building the report"
PROCESSORS = (detector.NAME, exif.NAME)  # what a report shows
WOKEN_AT_ONCE = 50
RETRY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a report is; ``images`` are all of its job's."""

    report: Report
    images: int

    @property
    def stage(self) -> str:
        """In words that clients may compare."""
        states = {ReportState.WAITING: WAITING, ReportState.DONE: "ready", ReportState.FAILED: "failed"}
        return states.get(self.report.state, BUILDING)

    @property
    def is_ready(self) -> bool:
        return self.report.state is ReportState.DONE

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more, unless the job is tried again."""
        return self.report.state in (ReportState.DONE, ReportState.FAILED)


def can_show(job: Job) -> bool:
    """Whether there is anything to report of the job: what the detector found."""
    return detector.NAME in (job.processors or ())


def ask(job_id: int) -> Standing:
    """Have a report of a job of the caller's built, or one that failed built anew; a second call changes nothing.

    Raises NotFoundError, and ConflictError where the job did not ask for the detector.
    """

    def work(session: Session) -> None:
        job = jobs.load(session, job_id, is_locked=True)
        if not can_show(job):
            raise ConflictError(f"the job did not ask for the processor {detector.NAME}: there is nothing to report")
        plan(session, job_id, f"job-{job_id}")
        again = {"state": ReportState.WAITING, "error_message": None, "attempts": 0}
        has_failed = (Report.job_id == job_id) & (Report.state == ReportState.FAILED)
        session.execute(update(Report).where(has_failed).values(**again))

    transactions.run(work)
    wake()
    queues.ring_builder()
    return standing(job_id)


def standing(job_id: int) -> Standing:
    """How far the report of a job of the caller's is. Raises NotFoundError."""

    def work(session: Session) -> Standing:
        job = jobs.load(session, job_id)
        report = session.get(Report, job_id)
        if report is None:
            raise NotFoundError("no report of this job was asked for")
        return Standing(report, job.images_total)

    return transactions.read(work)


def get(job_id: int) -> Report:
    """The report of a job of the caller's. Raises NotFoundError."""
    return standing(job_id).report


def find(job: Job) -> Standing | None:
    """How far the report of a job that the caller sees is, where one was asked for."""
    report = transactions.read(lambda session: session.get(Report, job.id)) if can_show(job) else None
    return Standing(report, job.images_total) if report else None


def plan(session: Session, job_id: int, name: str) -> None:
    """Have a report built once the job has ended; no commit. A second call changes nothing."""
    if session.get(Report, job_id) is None:
        session.add(Report(job_id=job_id, name=name, state=ReportState.WAITING, images_done=0, claim=0, attempts=0))
        session.flush()


def wake() -> int:
    """Make reports due whose jobs have ended, or ended again since; returns how many. A second call is harmless."""
    return transactions.run(_wake)


def _wake(session: Session) -> int:
    has_changed = or_(
        Report.state == ReportState.WAITING,
        and_(Report.state == ReportState.DONE, Job.finished_at > Report.built_at),
    )
    ended = select(Report.job_id).join(Job, Job.id == Report.job_id).where(has_changed, Job.state != JobState.ONGOING)
    ready = session.scalars(ended.limit(WOKEN_AT_ONCE)).all()
    if not ready:
        return 0
    values = {"state": ReportState.BUILDING, "due_at": db_now(), "attempts": 0, "images_done": 0}
    session.execute(
        update(Report)
        .where(Report.job_id.in_(ready), Report.state.in_((ReportState.WAITING, ReportState.DONE)))
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    return len(ready)


def build_next(is_stopping: Callable[[], bool]) -> bool:
    """Build the report that has been due for longest; False where none is.

    One that is interrupted is left to the next builder, and so is one whose storage or database is away for the moment.
    """
    lease = leases.claim(Report)
    if lease is None:
        return False
    try:
        if lease.is_hopeless:
            _fail(lease, "It could not be built: each worker that began with it died.")
        else:
            report_files.Builder(lease, is_stopping).build()
    except leases.LeaseLostError:
        log.warning("report left", job_id=lease.row.job_id, reason="another worker builds it")
    except (StorageError, StoredFileMissingError) as error:
        _put_off(lease, str(getattr(error, "message", error)))
    return True


def _put_off(lease: Lease, reason: str) -> None:
    log.warning("report put off", job_id=lease.row.job_id, reason=reason)
    lease.put_off(retry_seconds=RETRY_SECONDS, give_up=lambda: _fail(lease, f"It could not be built: {reason}"))


def _fail(lease: Lease, reason: str) -> None:
    values = {"state": ReportState.FAILED, "due_at": None, "error_message": reason[:300]}
    transactions.run(lambda session: lease.write(session, **values))
