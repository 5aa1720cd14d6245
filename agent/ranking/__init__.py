"""Rankers: who chooses among the candidates of a pool."""
