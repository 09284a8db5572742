"""A Flask service whose view calls a protected API through the client ``m2m``, and never sees a token."""

from collections.abc import Mapping
from typing import Any

from flask import Flask, jsonify

from tokenvalet import TokenValetError
from tokenvalet.hosts.flask import FlaskValet

valet = FlaskValet()


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    app = Flask(__name__)
    app.config["TOKENVALET"] = "tokenvalet.toml"  # beside this file
    app.config.from_mapping(config)
    valet.init_app(app)
    app.add_url_rule("/records", view_func=records)
    app.add_url_rule("/ready", view_func=valet.readiness())
    app.register_error_handler(TokenValetError, no_token)
    return app


def records() -> Any:
    with valet.client("m2m") as api:
        answer = api.get("/api/v1/integration/health-records")
    return jsonify(answer.json()), answer.status_code


def no_token(error: TokenValetError) -> Any:
    return jsonify(detail="the records cannot be had at the moment", code=error.code), 503
