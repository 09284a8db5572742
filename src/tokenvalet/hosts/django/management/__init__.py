"""The commands of the Django application."""
