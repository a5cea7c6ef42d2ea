"""The parts of ``make demo``: data, stages, report."""
