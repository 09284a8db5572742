"""The project's own tools: the audit of dependencies, the API snapshot, the standards checklist."""
