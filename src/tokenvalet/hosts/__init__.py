"""Web frameworks and task queues: a room for each, in its own idiom. Nothing is imported unless it is asked for."""
