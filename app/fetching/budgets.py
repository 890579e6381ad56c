"""How many bytes of unfinished bodies a process holds: past the budget, transfers pause until others have ended."""

from __future__ import annotations

from typing import Protocol


class Holder(Protocol):
    """What the budget needs of a transfer."""

    @property
    def held(self) -> int: ...

    def resume(self) -> None: ...


class Budget:
    """Past ``most_bytes`` one transfer at a time goes on, so that there is progress: one body more is the overshoot."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._paused: list[Holder] = []
        self._favoured: Holder | None = None
        self.used = 0

    def take(self, holder: Holder, count: int) -> bool:
        """Whether ``holder`` may keep ``count`` more bytes now; False: it is to pause, and will be resumed."""
        if self.used + count > self._most and holder is not self._favoured:
            self._paused.append(holder)
            return False
        self.used += count
        return True

    def give_back(self, holder: Holder) -> None:
        """The holder has ended; its bytes are somebody else's."""
        self.used -= holder.held
        if self._favoured is holder:
            self._favoured = None
        if holder in self._paused:
            self._paused.remove(holder)

    def resume(self) -> None:
        """Let paused transfers go on: all once half of the budget is free, else the one that is furthest."""
        if not self._paused:
            return
        if self.used <= self._most // 2:
            paused, self._paused = self._paused, []
            for holder in paused:
                holder.resume()
        elif self._favoured is None:
            self._favoured = max(self._paused, key=lambda holder: holder.held)
            self._paused.remove(self._favoured)
            self._favoured.resume()
