"""``celery -A tests.odd.worker worker``: a worker that has the odd processors beside those of the service."""

from app import processors
from app.processors import contract
from tests.odd.table import ODD

processors.BY_NAME = contract.by_name((*processors.REGISTERED, *ODD))

from celery_worker import app, celery, flask_app  # noqa: E402

__all__ = ["app", "celery", "flask_app"]
