"""All of them, without a worker: importing this changes nothing."""

from tests.odd import crash, eat, hang, kill, model, talk, wait, wait_aside

ODD = (crash, eat, hang, kill, model, talk, wait, wait_aside)
