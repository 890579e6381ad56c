"""Processors that no one should write: they crash, hang, eat memory. A worker that has them: ``tests.odd.worker``."""
