"""Slow, obvious algorithms and random instances that the tests compare the package with."""
