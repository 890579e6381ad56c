"""Images made to harm: those we make ourselves, Pillow's own, PngSuite, and mutants of all of them."""
