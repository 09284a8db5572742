"""The live page in a real browser: buttons make the flow happen, arrows and counters tell it, nothing secret is shown."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 30


@pytest.fixture
def page(browser: Chrome, page_url: str) -> Chrome:
    browser.get(page_url)
    until(browser, lambda: browser.find_element(By.ID, "connection").text == "connected")
    until(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, "#counts dd")) > 4)
    if browser.find_element(By.ID, "provider").get_attribute("aria-pressed") == "true":
        press(browser, "start")
    return browser


def until(browser: Chrome, true: Callable[[], Any]) -> None:
    WebDriverWait(browser, PATIENCE, poll_frequency=0.05).until(lambda _: true())


def count(browser: Chrome, name: str) -> int:
    script = "return Number(document.querySelector(`[data-count='${arguments[0]}']`).textContent)"
    return int(browser.execute_script(script, name))


def press(browser: Chrome, action: str) -> None:
    browser.find_element(By.CSS_SELECTOR, f"button[data-action='{action}']").click()
    until(browser, lambda: not browser.find_elements(By.CSS_SELECTOR, "button[aria-busy]"))


def arrows(browser: Chrome) -> list[str]:
    script = "return [...document.querySelectorAll('#flow .arrow')].map((one) => one.getAttribute('aria-label'))"
    return list(browser.execute_script(script))


def test_a_call_is_told_arrow_by_arrow_with_times_and_redacted_headers(page: Chrome) -> None:
    before = count(page, "calls to the API")
    press(page, "call")
    until(page, lambda: count(page, "calls to the API") > before)
    until(page, lambda: any("service to service: 200, 3 records" in one for one in arrows(page)))
    told = arrows(page)
    order = [
        next(i for i, one in enumerate(told) if one.startswith(way)) for way in ("service to client", "client to cache")
    ]
    assert order == sorted(order)
    assert any(one.startswith("client to API: GET /api/v1/integration/health-records  DPoP ●●●") for one in told)
    details = page.find_elements(By.CSS_SELECTOR, "#flow details")
    details[-1].find_element(By.TAG_NAME, "summary").click()
    headers = details[-1].find_element(By.TAG_NAME, "pre").text
    assert "authorization: DPoP ●●●" in headers
    assert "dpop: ●●●" in headers
    whole = str(page.execute_script("return document.documentElement.outerHTML"))
    assert "eyJ" not in whole
    assert "for-the-demo-only" not in whole


def test_a_revoked_token_and_a_new_nonce_are_put_right(page: Chrome) -> None:
    press(page, "call")
    requests, right = count(page, "token requests"), count(page, "put right")
    press(page, "revoke")
    press(page, "call")
    until(page, lambda: count(page, "put right") > right)
    assert count(page, "token requests") > requests
    assert any("every token is revoked" in one for one in arrows(page))
    press(page, "nonce")
    press(page, "call")
    until(page, lambda: any("with the API's nonce in a new proof" in one for one in arrows(page)))


def test_a_thousand_calls_at_once_are_a_few_arrows_and_no_token_request(page: Chrome) -> None:
    press(page, "call")
    requests, calls = count(page, "token requests"), count(page, "calls to the API")
    press(page, "storm")
    until(page, lambda: count(page, "calls to the API") >= calls + 1000)
    assert count(page, "token requests") - requests <= 1  # one, if it had just become due
    until(page, lambda: any("1000 × GET /records, all at once" in one for one in arrows(page)))


def test_calls_go_on_while_the_provider_is_stopped_and_its_button_says_what_it_does(page: Chrome) -> None:
    press(page, "call")
    button = page.find_element(By.ID, "provider")
    press(page, "stop")
    until(page, lambda: button.get_attribute("aria-pressed") == "true")
    assert "Start the provider" in button.text
    calls = count(page, "calls to the API")
    press(page, "call")
    until(page, lambda: count(page, "calls to the API") > calls)
    press(page, "start")
    until(page, lambda: button.get_attribute("aria-pressed") == "false")


def test_arrows_go_from_the_middle_of_a_lane_to_the_middle_of_another_and_the_lanes_stay_in_sight(page: Chrome) -> None:
    for _ in range(8):
        press(page, "call")
    until(page, lambda: "200, 3 records" in arrows(page)[-1])
    script = """
        const middles = [...document.querySelectorAll('#lanes span')].map((one) => {
            const box = one.getBoundingClientRect();
            return [one.textContent, (box.left + box.right) / 2, box.top >= 0 && box.bottom <= innerHeight];
        });
        const ways = [...document.querySelectorAll('#flow .arrow.right')].map((one) => {
            const box = one.getBoundingClientRect();
            return [one.getAttribute('aria-label'), box.left, box.right];
        });
        const last = document.querySelector('#flow li:last-child').getBoundingClientRect();
        return [middles, ways, scrollY, last.bottom <= innerHeight];
    """
    middles, ways, scrolled, last_is_seen = page.execute_script(script)
    assert [name for name, _, _ in middles] == ["service", "client", "cache", "token endpoint", "API"]
    assert all(seen for _, _, seen in middles)
    assert scrolled > 0
    assert last_is_seen
    where = {name: middle for name, middle, _ in middles}
    assert ways
    for label, left, right in ways:
        begin, _, end = label.partition(":")[0].partition(" to ")
        assert abs(left - where[begin]) < 3
        assert abs(right - where[end]) < 3


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_beyond_the_window(page: Chrome, width: int) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        press(page, "call")
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_two_windows_that_press_at_once_see_the_same_and_one_crowd_counts(page: Chrome, page_url: str) -> None:
    calls = count(page, "calls to the API")
    first = page.current_window_handle
    page.switch_to.new_window("tab")
    try:
        page.get(page_url)
        until(page, lambda: page.find_element(By.ID, "connection").text == "connected")
        button = {"X-Tokenvalet-Demo": "button"}
        with ThreadPoolExecutor(4) as pool:
            done = [pool.submit(httpx2.post, f"{page_url}live/do/storm", headers=button, timeout=60) for _ in range(4)]
            assert {one.result().status_code for one in done} == {204}
        until(page, lambda: count(page, "calls to the API") >= calls + 1000)
        assert len(arrows(page)) < 200
    finally:
        page.close()
        page.switch_to.window(first)
    until(page, lambda: count(page, "calls to the API") >= calls + 1000)


def test_the_page_is_worked_by_keys_alone(page: Chrome) -> None:
    calls = count(page, "calls to the API")
    body = page.find_element(By.TAG_NAME, "body")
    body.send_keys("c")
    until(page, lambda: count(page, "calls to the API") > calls)
    body.send_keys(Keys.TAB)
    focused = page.switch_to.active_element
    assert focused.get_attribute("data-action") == "call"
    calls = count(page, "calls to the API")
    focused.send_keys(Keys.ENTER)
    until(page, lambda: count(page, "calls to the API") > calls)
    body.send_keys("x")
    until(page, lambda: arrows(page) == [])


def test_nothing_is_asked_of_any_other_host_and_nothing_goes_wrong_in_the_console(page: Chrome, page_url: str) -> None:
    press(page, "call")
    script = "return performance.getEntriesByType('resource').map((one) => one.name)"
    loaded = list(page.execute_script(script))
    assert loaded
    assert [one for one in loaded if not one.startswith(page_url)] == []
    faults = [one for one in page.get_log("browser") if one["level"] == "SEVERE"]  # type: ignore[no-untyped-call]
    assert faults == []


def test_a_foreign_host_header_is_refused_and_so_is_a_button_that_the_page_did_not_press(page_url: str) -> None:
    with httpx2.Client(base_url=page_url, trust_env=False) as client:
        for path in ("/", "/live/events", "/records"):
            assert client.get(path, headers={"Host": "rebound.example"}).status_code == 400
        assert client.post("/live/do/call").status_code == 403
        assert client.post("/live/do/call", data={"x": "y"}).status_code == 403
        assert client.post("/live/do/nothing", headers={"X-Tokenvalet-Demo": "button"}).status_code == 404
        assert "default-src 'none'" in client.get("/").headers["content-security-policy"]
