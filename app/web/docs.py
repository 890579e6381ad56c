"""The interactive documentation: Swagger UI out of its wheel, with no request to the outside."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import flask_openapi_swagger
from flask import Blueprint, Response, current_app, jsonify, render_template_string, url_for

from app.web.auth import public
from app.web.documents.base import Api

ASSETS = Path(flask_openapi_swagger.__file__).parent / "templates" / "swagger"
# Swagger UI sets styles from its script and draws its icons from data: addresses.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>imagejobs: HTTP interface</title>
  <link rel="icon" href="{{ url_for('docs.static', filename='images/swagger.svg') }}">
  <link rel="stylesheet" href="{{ url_for('docs.static', filename='css/swagger-ui.css') }}">
</head>
<body>
  <div id="swagger-ui"></div>
  <script src="{{ url_for('docs.static', filename='js/swagger-ui-bundle.js') }}"></script>
  <script src="{{ url_for('docs.start') }}"></script>
</body>
</html>
"""
# validatorUrl: the badge would have a server outside read our document.
START = 'SwaggerUIBundle({url: "%s", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null});\n'

blueprint = Blueprint("docs", __name__, static_folder=str(ASSETS), static_url_path="/docs/static")


@blueprint.get("/docs")
@public
def page() -> Response:
    return Response(render_template_string(PAGE), headers={"Content-Security-Policy": POLICY}, mimetype="text/html")


@blueprint.get("/docs/start.js")
@public
def start() -> Response:
    return Response(START % url_for("docs.document"), mimetype="text/javascript")


@blueprint.get("/openapi.json")
@public
def document() -> Response:
    return jsonify(cast(Api, current_app).api_doc)
