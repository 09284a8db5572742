"""``tokenvalet demo``: the whole flow in eight acts, first with Bearer tokens and then with DPoP.

Nothing here says what the library does: the acts load pages, move clocks and disturb servers, and `narrator` tells what
comes of it. Tokens live ten minutes, and the clocks are put forward where something takes minutes, so that the demo is
over in moments and ends in the same way on a machine that is busy.
"""

from __future__ import annotations

from .demo_stage import Browser, Stage
from .tally import Act, Promise, Tally

__all__ = ["play"]

LIFETIME = 600.0
DUE_AFTER = 540.0  # seconds; a token of ten minutes is due after seven and a half, or eight
LONGER_THAN_BACK_OFF = 20.0
CROWD = 50
SLOW = 0.25  # seconds that the token endpoint takes where it shall be seen who waits for it, and who does not


def play(stage: Stage, *, port: int = 0) -> bool:
    """Play all acts, with the web host on `port`, and show what was counted. Returns whether all was as promised."""
    stage.auth.access_token_lifetime = LIFETIME
    with stage:
        screen, tally = stage.screen, Tally(stage)
        screen.line("A browser, a service, an authorization server and an API, all on this machine.", bold=True)
        screen.line(f"  authorization server  {stage.auth.issuer}")
        screen.line(f"  health-records API    {stage.api.origin}")
        with stage.host(dpop=False, port=port) as browser:
            screen.line(f"  service               {browser.url}")
            _bearer(stage, tally, browser)
        with stage.host(dpop=False, port=port) as browser:
            _stampede(stage, tally, browser)
        with stage.host(dpop=True, port=port) as browser:
            _dpop(stage, tally, browser)
        return tally.show()


def _bearer(stage: Stage, tally: Tally, browser: Browser) -> None:
    promise = Promise(token_requests=("issued",), calls=(200,), waits=1)
    with tally.act("Bearer: a token is got and kept", browser, promise) as act:
        act.expect(browser.load())

    with tally.act("The next call: no token request", browser, Promise(calls=(200,))) as act:
        act.expect(browser.load())

    promise = Promise(token_requests=("issued",), calls=(200, 200))
    with tally.act("Renewed ahead of time: nobody waits", browser, promise) as act:
        _until_due(stage)
        stage.auth.token_delay = SLOW
        act.expect(browser.load())
        _await(act, browser, "token_cached")
        stage.auth.token_delay = 0.0
        act.expect(browser.load())

    promise = Promise(token_requests=("issued",), calls=(401, 200), waits=1)
    with tally.act("A revoked token: put right, once", browser, promise) as act:
        stage.auth.revoke_all()
        stage.screen.remark("the authorization server revokes every token")
        act.expect(browser.load())

    promise = Promise(token_requests=("issued",), calls=(200, 200, 200))
    with tally.act("The authorization server is down", browser, promise) as act:
        _until_due(stage)
        stage.auth_server.stop()
        stage.screen.remark("the authorization server goes down")
        act.expect(browser.load())
        _await(act, browser, "renewal_failed")
        act.expect(browser.load())
        stage.auth_server.start()
        stage.clock.forward(LONGER_THAN_BACK_OFF)
        stage.screen.remark(f"it is back; {LONGER_THAN_BACK_OFF:.0f} seconds later:")
        act.expect(browser.load())
        _await(act, browser, "token_cached")


def _stampede(stage: Stage, tally: Tally, browser: Browser) -> None:
    promise = Promise(token_requests=("issued",), calls=(200,) * CROWD, waits=None)
    with tally.act(f"{CROWD} requests at once, 1 token request", browser, promise) as act:
        stage.screen.remark("a service that has just started: its cache is empty")
        stage.auth.token_delay = SLOW
        act.expect(browser.load_at_once(CROWD))
        stage.auth.token_delay = 0.0


def _dpop(stage: Stage, tally: Tally, browser: Browser) -> None:
    stage.auth.require_dpop_nonce = stage.api.require_dpop_nonce = True
    promise = Promise(token_requests=("use_dpop_nonce", "issued"), calls=(401, 200), waits=1, scheme="DPoP")
    with tally.act("DPoP: both servers want a nonce", browser, promise) as act:
        stage.screen.remark("another service, with dpop = true; every request has a proof of its own")
        act.expect(browser.load())

    promise = Promise(calls=(200,), scheme="DPoP")
    with tally.act("The next call: the nonce is known", browser, promise) as act:
        act.expect(browser.load())


def _until_due(stage: Stage) -> None:
    stage.clock.forward(DUE_AFTER)
    stage.screen.remark(f"{DUE_AFTER / 60:.0f} minutes later, by clocks that the demo puts forward: the token is due")


def _await(act: Act, browser: Browser, event: str) -> None:
    """Wait until an event is there that was not there when the act began, unless all is lost anyway."""
    if not act.faults and not browser.narrator.wait_for(event, act.before[event] + 1):
        act.expect(f"the event {event} did not come")
