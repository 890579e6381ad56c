"""To be imported before structlog by a process that shows nobody tracebacks in colours: it then does without rich.

structlog takes rich where it is installed, as it is for the client's progress; that is 5 MB in every worker process.
"""

from __future__ import annotations

import sys

sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
