"""Readers of files that others wrote: hidden states, similarity maps and loss sweeps."""
