"""What is handed to people about the photos of a job: annotated images, a workbook, a CSV, a JSON, all in one zip."""

from __future__ import annotations
