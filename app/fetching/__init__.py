"""Many URLs at once, safely: an address guard, caps and breakers by host, deadlines, bodies that end.

``Downloads`` is the door; it knows nothing of jobs, databases or brokers.
"""

from app.fetching.addresses import AddressGuard
from app.fetching.downloads import Downloads
from app.fetching.limits import FetchLimits
from app.fetching.results import Fetched, HeldBack

__all__ = ["AddressGuard", "Downloads", "FetchLimits", "Fetched", "HeldBack"]
