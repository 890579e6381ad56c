"""The tables. No queries, no JSON.

A job's rows share its id as the first part of their key, so they lie together on disk: reading a chunk is one range,
and a job leaves again by deleting ranges (``docs/decisions/0002-keys-and-deleting.md`` says why there are no foreign
keys on the large tables). Times are UTC by the database's clock.
"""

from __future__ import annotations

from app.models.base import BYTEWISE, Base
from app.models.exports import Export, ExportState
from app.models.feeds import FeedItem
from app.models.jobs import Chunk, Image, ImageState, Job, JobSource, JobState, Visit, VisitState
from app.models.keys import ApiKey
from app.models.marks import StorageMark
from app.models.requests import IdempotencyKey
from app.models.shares import Share
from app.models.stores import Store
from app.models.totals import Total
from app.models.uploads import Report, ReportState, Upload, UploadFile, UploadState
from app.models.visit_sums import Grain, VisitChange, VisitSum
from app.models.webhooks import ALL_JOBS, Delivery, DeliveryState, Webhook
from app.models.workers import Worker

__all__ = [
    "ALL_JOBS",
    "BYTEWISE",
    "ApiKey",
    "Base",
    "Chunk",
    "Delivery",
    "DeliveryState",
    "Export",
    "ExportState",
    "FeedItem",
    "Grain",
    "IdempotencyKey",
    "Image",
    "ImageState",
    "Job",
    "JobSource",
    "JobState",
    "Report",
    "ReportState",
    "Share",
    "StorageMark",
    "Store",
    "Total",
    "Upload",
    "UploadFile",
    "UploadState",
    "Visit",
    "VisitChange",
    "VisitState",
    "VisitSum",
    "Webhook",
    "Worker",
]
