"""``tokenvalet demo --serve``: the servers stay, for a browser and for clients of the reader's own.

Nothing is played and no clock is moved: the flow is told as requests come in. Tokens live a minute, so that renewals
ahead of time can be seen.
"""

from __future__ import annotations

import signal
import time

from .demo_stage import CLIENT_ID, SCOPE, Stage
from .live_demo import LiveDemo
from .live_page import LivePage
from .screen import Screen

__all__ = ["CLIENT_SECRET", "PORTS", "serve_until_interrupted"]

PORTS = (9400, 9401, 9402)
"""Of the authorization server, the API and the web host, unless others are asked for."""

CLIENT_SECRET = "for-the-demo-only"  # noqa: S105  known to everybody, as the page of the example is
LIFETIME = 60.0


def serve_until_interrupted(screen: Screen, auth_port: int, api_port: int, host_port: int) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises OSError where a port is taken."""
    # Whoever runs this in a container or from a script ends it so.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    stage = Stage(screen, auth_port=auth_port, api_port=api_port, client_secret=CLIENT_SECRET)
    stage.auth.access_token_lifetime = LIFETIME
    stage.auth.require_dpop_nonce = stage.api.require_dpop_nonce = True
    live = LiveDemo(stage)
    page = LivePage(live.feed, live.counts, live.press)
    try:
        with stage, stage.host(dpop=True, port=host_port, shown=live.feed, around=page.around) as browser:
            live.browser = browser
            screen.line("An authorization server, an API and a service, on this machine, until Ctrl-C.", bold=True)
            screen.line(f"  authorization server  {stage.auth.issuer}")
            screen.line(f"  health-records API    {stage.api.origin}")
            screen.line(f"  service               {browser.url}/records")
            screen.heading("A client of your own, such as the one in examples/fastapi, takes:")
            screen.line(f'  issuer = "{stage.auth.issuer}"')
            screen.line(f'  client_id = "{CLIENT_ID}"')
            screen.line('  client_secret = "${RECORDS_CLIENT_SECRET}"')
            screen.line(f'  scope = ["{SCOPE}"]')
            screen.line("  dpop = true                     # or without: the API takes both")
            screen.line(f'  base_url = "{stage.api.origin}"')
            screen.line()
            screen.line(f"  export RECORDS_CLIENT_SECRET={CLIENT_SECRET}")
            screen.line(f"  the flow, live        {browser.url}/")
            screen.heading(f"Open {browser.url}/ in a browser, or load {browser.url}/records, and watch:")
            try:
                while True:
                    time.sleep(3600)
            finally:
                page.stop()
    except KeyboardInterrupt:
        screen.line()
        screen.line("Ended.")
