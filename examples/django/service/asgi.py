"""The service for servers that speak ASGI."""

import os

from django.core.asgi import get_asgi_application

from tokenvalet.hosts.django import lifespan

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "service.settings")
# The valet is opened and closed with the server, which does not start with a configuration that has faults.
application = lifespan(get_asgi_application())
