"""The commands of the Django application, a module for each."""
