"""``make bench``: this service beside a plain loop and beside the bare limit, on the same images, in one run."""
