"""Where the service answers."""

from django.urls import path

from tokenvalet.hosts.django import readiness

from .views import async_records, records

urlpatterns = [path("records", records), path("async-records", async_records), path("ready", readiness())]
