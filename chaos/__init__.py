"""``make chaos``: one job on the real service, while its parts are killed, frozen, emptied and cut off; then its books.

The run is seeded: ``SEED`` decides which fault comes when and which worker it hits. Everything is on loopback, started
by the run itself and ended with it.
"""
