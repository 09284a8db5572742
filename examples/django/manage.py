"""The service's commands: `python manage.py tokenvalet_check`, `python manage.py runserver`."""

import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "service.settings")
execute_from_command_line(sys.argv)
