"""The service for servers that speak WSGI."""

import os

from django.core.wsgi import get_wsgi_application

from tokenvalet.hosts.django import valet

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "service.settings")
application = get_wsgi_application()
valet()  # made now and not by the first request: the server does not start with a configuration that has faults
