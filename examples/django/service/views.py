"""Views that call a protected API through the client ``m2m``, and never see a token."""

from typing import Any

from django.http import HttpRequest, JsonResponse
from django.utils.deprecation import MiddlewareMixin

from tokenvalet import TokenValetError
from tokenvalet.hosts.django import async_client, client


def records(request: HttpRequest) -> JsonResponse:
    with client("m2m") as api:
        answer = api.get("/api/v1/integration/health-records")
    return JsonResponse(answer.json(), safe=False, status=answer.status_code)


async def async_records(request: HttpRequest) -> JsonResponse:
    async with async_client("m2m") as api:
        answer = await api.get("/api/v1/integration/health-records")
    return JsonResponse(answer.json(), safe=False, status=answer.status_code)


class NoToken(MiddlewareMixin):
    """Says so where no token could be had."""

    def process_exception(self, request: HttpRequest, error: Exception) -> Any:
        if not isinstance(error, TokenValetError):
            return None
        told = {"detail": "the records cannot be had at the moment", "code": error.code}
        return JsonResponse(told, status=503)
