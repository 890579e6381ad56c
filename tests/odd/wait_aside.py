"""Waits as ``wait`` does, in a lane of its own."""

from tests.odd import wait

NAME = "wait_aside"
NEEDS = "pixels"
LANE = "aside"

execute = wait.execute
