"""One harness for every number that the README and the documentation quote.

``prepare`` needs MNE and the recordings, ``run`` needs torch and braindecode and
reads the file that ``prepare`` wrote, ``tables`` and ``figures`` need the stored
CSV alone.
"""
