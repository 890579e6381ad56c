"""What a conveyor is allowed, and the places of slow images that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.decoding import ChildOptions, Children
from app.domain.lanes import Lane
from app.domain.outcomes import RetryPolicy
from app.fetching import FetchLimits
from app.processors import DecodeLimits, contract

# So many slow images for each child are under way, fetching included, so that it does not wait for the network.
SLOW_A_CHILD = 64


@dataclass(frozen=True)
class ConveyorOptions:
    """``slots`` images at once are under way; ``ahead`` more may wait so that slots never run empty."""

    slots: int
    ahead: int
    pause_min_seconds: float
    pause_max_seconds: float
    fetch: FetchLimits
    decode: DecodeLimits
    children: ChildOptions
    lane_processes: int  # children of each lane but the plain one
    retry: RetryPolicy

    def lane(self, name: str) -> Lane:
        children = self.children
        if name != contract.PLAIN:
            children = replace(children, processes=self.lane_processes)
        return Lane(Children(children), max(1, min(SLOW_A_CHILD * children.processes, self.slots * 3 // 4)))
