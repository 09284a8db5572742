"""One HTTP library each: thin drivers of the same dance. A library is imported by its own room, and only when it is used."""
