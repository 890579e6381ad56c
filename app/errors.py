"""Domain exceptions. The whole tree stands here; ``app.web.errors`` turns it into status codes.

ImagejobsError
├── SettingError                a setting that cannot be used; stops the start
├── InvalidRequestError         what a client sent cannot be taken (400)
│   ├── ArchiveError            a zip archive that is hostile, damaged or too large
│   ├── TooManyImagesError      more images than a job may have (413)
│   ├── TooLargeError           more bytes than a body or a file may have (413)
│   ├── ManifestError           a line of a manifest cannot be taken (422)
│   └── UnprocessableError      a body that is not what this address is for (422)
├── NotFoundError               no such thing, or not the caller's (404)
├── AuthenticationError         no key, or one that is not valid (401)
├── ForbiddenError              the caller may not do that (403)
├── ConflictError               an Idempotency-Key used for another body (409)
├── TooManyRequestsError        the caller asks too often; carries when it may again (429)
├── QueueFullError              too much work is waiting; try again later (503)
├── ReportFailedError           a report could not be built, and will not be (500)
├── MailError                   a mail was not taken by the server
├── UnavailableError            the database is away; try again later (503)
├── BackupError                 a backup cannot be taken, or not be restored
└── ImageError                  one image failed; carries a stable code
    ├── FetchError              ... while it was downloaded
    ├── DecodeError             ... while it was read
    └── StorageError            ... since its file could not be written or read now (503)
        ├── OtherStorageError           this host sees other files than the others (503)
        ├── StoredFileMissingError      there is no such file (404)
        └── StoredFileDamagedError      the file is not what was written
"""

from __future__ import annotations

MESSAGE_MOST_CHARACTERS = 300


class ImagejobsError(Exception):
    """The root of everything this service raises on purpose."""


class SettingError(ImagejobsError):
    """A setting is missing or wrong; the message names it in a sentence."""


class InvalidRequestError(ImagejobsError):
    """What the client sent cannot be taken; the message says which field and why."""


class TooManyImagesError(InvalidRequestError):
    """A job has more images than ``JOB_MAX_IMAGES``."""


class TooLargeError(InvalidRequestError):
    """A body, or a file in it, has more bytes than are taken; the message names the bound."""


class ManifestError(InvalidRequestError):
    """A manifest cannot be taken; ``line`` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


class UnprocessableError(InvalidRequestError):
    """A body that is none, or names what is not there; in the words that clients in the field know."""


class NotFoundError(ImagejobsError):
    """There is no such thing, or it belongs to somebody else."""


class AuthenticationError(ImagejobsError):
    """Nobody knows who is calling: no key was sent, or one that is not valid; the message says which."""


class ForbiddenError(ImagejobsError):
    """The caller is known, and may not do that; the message says what they lack."""


class ConflictError(ImagejobsError):
    """The request contradicts one that was accepted before."""


class TooManyRequestsError(ImagejobsError):
    """The caller asks too often; again in ``retry_after_seconds``."""

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class QueueFullError(ImagejobsError):
    """So many images wait that no more are taken in; the message says how many."""

    retry_after_seconds = 30


class ArchiveError(InvalidRequestError):
    """A zip archive that is not taken; the message says why, ``is_too_large`` that less of the same would do."""

    def __init__(self, message: str, *, is_too_large: bool = False) -> None:
        super().__init__(message)
        self.is_too_large = is_too_large


class BackupError(ImagejobsError):
    """A backup cannot be taken or restored; the message says why, and nothing was lost by it."""


class ImageError(ImagejobsError):
    """One image failed.

    ``code`` is stable and for machines, ``message`` is one short sentence for a store's engineer.
    ``transient`` says whether a later attempt may succeed, ``retry_after`` is the wait in seconds
    that the host asked for, ``None`` where it did not.
    """

    def __init__(self, code: str, message: str, *, transient: bool = False, retry_after: float | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message[:MESSAGE_MOST_CHARACTERS]
        self.transient = transient
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class FetchError(ImageError):
    """An image could not be downloaded."""


class DecodeError(ImageError):
    """What was downloaded could not be read as an allowed image."""


class StorageError(ImageError):
    """A file could not be written or read: the disk is full, the S3 server away. It may pass."""

    def __init__(self, message: str, *, code: str = "storage_error", transient: bool = True) -> None:
        super().__init__(code, message, transient=transient)


class OtherStorageError(StorageError):
    """This host does not see the mark that the service put into its storage."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"This host does not see the files of the service: {name} is not the storage that it was begun with. "
            "Set STORAGE_URL as on the other hosts, or, if the files were moved there, run: imagejobs adopt-storage"
        )


class StoredFileMissingError(StorageError):
    """The file is not there: it was removed, or this host sees another storage."""

    def __init__(self) -> None:
        super().__init__("The stored file is not there.", code="file_missing", transient=False)


class StoredFileDamagedError(StorageError):
    """The file is another one than was written."""

    def __init__(self) -> None:
        super().__init__("The stored file is damaged: its checksum differs.", code="file_damaged", transient=False)


class ReportFailedError(ImagejobsError):
    """The report of a job could not be built; the message says why."""


class MailError(ImagejobsError):
    """A mail was not taken by the server; where ``is_final`` it never will be."""

    def __init__(self, message: str, *, is_final: bool) -> None:
        super().__init__(message)
        self.is_final = is_final


class UnavailableError(ImagejobsError):
    """The database cannot be reached or does not answer now; the same request may succeed later (503)."""
