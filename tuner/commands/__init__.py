"""One file per command of `asymrnr-tune`.

What needs torch is imported inside the commands, so that help and bad usage answer at once and `tuner.cli` can set the
environment before torch reads it.
"""
