"""The pages for people, under /dashboard: each view parses, calls one function of the domain, and renders."""

from __future__ import annotations

from app.web.pages import control, jobs, keys, logins, overviews, stores, submit, visits, webhooks
from app.web.pages.base import blueprint

__all__ = ["blueprint", "control", "jobs", "keys", "logins", "overviews", "stores", "submit", "visits", "webhooks"]
