"""The blueprint that the pages hang on."""

from __future__ import annotations

from flask import Blueprint

from app.web import forms

blueprint = Blueprint("pages", __name__, url_prefix="/dashboard", template_folder="../templates")
blueprint.before_request(forms.expect_browser)
