"""Secrets planted everywhere, and looked for in logs, errors, tracebacks, pickles, events and whatever shows a value."""
