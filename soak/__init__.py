"""``make soak``: the service behind nginx at half of what it can, an hour long, with a fault a minute."""
