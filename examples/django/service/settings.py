"""The settings of the service, as far as it needs any."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parents[1]
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "signs nothing in this service")
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
INSTALLED_APPS = ["tokenvalet.hosts.django"]
MIDDLEWARE = ["service.views.NoToken"]
ROOT_URLCONF = "service.urls"
USE_TZ = True

TOKENVALET = "tokenvalet.toml"  # in BASE_DIR; or the same as a mapping: {"clients": {"m2m": {...}}}
