"""Tests of `deni.baselines`."""
