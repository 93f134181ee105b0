"""The console in a real browser: quiet, at home, legible in both colour schemes, by keyboard, without JavaScript, and
deaf to what payloads would have it do."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import pytest
from msgspec.structs import replace
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from relay.admin.auth import Authenticator
from relay.admin.console.serving import COOKIE
from relay.admin.recent import RecentAttempts
from relay.outbox import OUTBOX
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Database
from tests.acceptance.stage import ROOT
from tests.ports import free_port
from tests.relay.admin.past import attempt, change, ended
from tests.relay.admin.served import TOKEN, context, served
from tests.relay.deliveries import answer, attempted, claimed, ill, many, new, put, stand, states

ORIGIN = "https://receiver.example:443"
CANARY = "<img src=x onerror=window.sang=1><script>window.sang=1</script>\"'`{{7*7}}</script>"
PAGES = {
    "Now": "/",
    "Deliveries": "/deliveries",
    "Delivery": "/deliveries/canary",
    "Destinations": "/destinations",
    "Destination": f"/destination?origin={ORIGIN}",
    "Audit": "/audit",
    "Settings": "/settings",
    "Runbooks": "/runbooks",
    "Send again": "/replay?state=dead",
    "Nothing": "/deliveries?outcome=blocked",
    "Problem": "/deliveries/nobody",
}
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
AXE = ROOT / "build" / "axe"

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        expect.set_options(timeout=20_000)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def axe() -> str:
    """The script that looks for what people cannot read or reach; installed into build/ once."""
    script = AXE / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        shutil.copytree(Path(__file__).with_name("axe"), AXE, dirs_exist_ok=True)
        npm = ("npm", "install", "--prefix", str(AXE), "--no-package-lock", "--no-audit", "--no-fund")
        subprocess.run(npm, check=True, stdout=subprocess.DEVNULL, timeout=300)
    return script.read_text("utf-8")


@pytest.fixture(scope="module")
def outbox_with_a_past(tmp_path_factory: pytest.TempPathFactory) -> Database:
    """Deliveries of every kind, and a canary wherever a stranger may write: body, headers, URL, answer."""
    database, now = SqliteDatabase(tmp_path_factory.mktemp("console") / "outspoken.db"), time.time()
    database.migrate([OUTBOX])
    put(database, *many(8))
    put(database, new(CANARY, "https://other.example/"))
    put(
        database,
        new("canary", f"https://receiver.example/{quote(CANARY)}", body=CANARY.encode(), headers={"x-song": CANARY}),
    )
    ended(database, "d1", at=now - 60)
    ended(database, "d2", "delivered", at=now - 50, outcome="success", status=200)
    ended(database, "d3", "cancelled", at=now - 40)
    ill(database, until=now + 100)
    stand(database, "paused", "https://other.example:443")
    change(database, "UPDATE outspoken_deliveries SET attempts = 1, due_at = ? WHERE id = 'canary'", now + 500)
    with database.writing() as connection:
        attempt(connection, "canary", 1, now - 10, "http_5xx", 500, CANARY)
        connection.execute(
            "UPDATE outspoken_attempts SET answer_headers = ?, request_headers = ?, excerpt = ?, timing = ? "
            "WHERE detail <> ''",
            (json.dumps([["server", CANARY]]), json.dumps([[CANARY, CANARY]]), CANARY.encode(), '{"dns": 0.1}'),
        )
        connection.execute(
            "INSERT INTO outspoken_audit (at, actor, source, act, detail) VALUES (?, ?, 'api', 'delivery.replay', ?)",
            (now, CANARY, json.dumps({"ids": [CANARY]})),
        )
    return database


@pytest.fixture(scope="module")
def recent() -> RecentAttempts:
    recent, now = RecentAttempts(time.time() - 7200), time.time()
    for minute in range(60):
        for came in (answer(200), answer(200), answer(503)):
            heard = attempted(claimed(destination=ORIGIN), came)
            recent([replace(heard, finished_at=now - 60 * minute)])
    return recent


@pytest.fixture(scope="module")
def address(outbox_with_a_past: Database, recent: RecentAttempts) -> Iterator[str]:
    with served(context(outbox_with_a_past, recent)) as address:
        yield address


@pytest.fixture
def alone(database: Database) -> Iterator[str]:
    """The console of an outbox of this test's own."""
    with served(context(database)) as address:
        yield address


@contextmanager
def signed_in(chromium: Browser, address: str, **wishes: object) -> Iterator[Page]:
    """A page on which nothing may go wrong: no error, no word in the console, no request that leaves the address."""
    context: BrowserContext = chromium.new_context(**wishes)  # type: ignore[arg-type]
    context.set_default_timeout(15_000)
    page, wrong = context.new_page(), list[str]()

    def hear(said: ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            wrong.append(f"console: {said.text}")

    def follow(asked: Request) -> None:
        if not asked.url.startswith(f"{address}/"):
            wrong.append(f"left for {asked.url}")

    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("console", hear)
    page.on("request", follow)
    session = Authenticator(TOKEN).session("Ada", time.time())
    context.add_cookies([{"name": COOKIE, "value": session, "url": address, "sameSite": "Strict"}])
    page.goto(address)
    yield page
    # The browser also tells the status of a page that is not there.
    assert [one for one in wrong if "responded with a status of 40" not in one] == []
    context.close()


@pytest.mark.needs("npm")
def test_every_page_is_quiet_stays_at_home_and_can_be_read_by_everybody_in_the_light_and_in_the_dark(
    chromium: Browser, address: str, axe: str
) -> None:
    # The audit is put past the policy that keeps strangers' scripts out.
    with signed_in(chromium, address, color_scheme="light", bypass_csp=True) as page:
        flaws = {}
        for name, path in PAGES.items():
            page.goto(address + path)
            if name == "Delivery":
                page.get_by_text("Request and answer").click()
            if name == "Destinations":
                page.get_by_text("to look at").first.press("Enter")
                expect(page.get_by_text("It failed 5 times in a row")).to_be_visible()
            flaws[name] = look_over(page, axe)
        page.get_by_role("button", name="Sign out").click()
        flaws["Sign in"] = look_over(page, axe)
        assert not any(flaws.values()), json.dumps(flaws, indent=2)


OF_COLOURS = {"runOnly": ["color-contrast", "link-in-text-block"]}
SCHEMES: tuple[tuple[Literal["light", "dark"], dict[str, list[str]]], ...] = (("light", {}), ("dark", OF_COLOURS))


def look_over(page: Page, axe: str) -> list[str]:
    """What is wrong. Of the dark scheme only what colours decide: all else was looked over in the light one."""
    page.evaluate(axe)
    flaws = []
    for scheme, rules in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        violations = page.evaluate("rules => axe.run(rules).then(found => found.violations)", rules)
        flaws += [f"{scheme}: {one['id']}: {one['nodes'][0]['html'][:200]}" for one in violations]
    page.emulate_media(color_scheme="light")
    return flaws


def test_a_chart_tells_what_is_under_the_pointer(chromium: Browser, address: str) -> None:
    with signed_in(chromium, address) as page:
        expect(page.locator(".plot canvas")).to_be_visible()
        page.locator(".plot").hover()
        expect(page.locator(".tip")).to_contain_text("delivered")


def test_now_renews_itself_and_keeps_its_chart(chromium: Browser, alone: str, database: Database) -> None:
    put(database, new())
    with signed_in(chromium, alone) as page:
        expect(page.get_by_role("heading", level=1)).to_contain_text("1 delivery is due")
        change(database, "UPDATE outspoken_deliveries SET state = 'cancelled', finished_at = 1")
        expect(page.get_by_role("heading", level=1)).to_have_text("Nothing is late, and nothing is wrong.")
        expect(page.locator(".plot canvas")).to_be_visible()
        page.context.clear_cookies()  # as when a session ends
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page).to_have_url(f"{alone}/login")


@contextmanager
def a_relay(database: Database, ports: tuple[int, int]) -> Iterator[subprocess.Popen[bytes]]:
    """A relay in a process of its own, ready."""
    assert isinstance(database, SqliteDatabase)
    environ = os.environ | {
        "OUTSPOKEN_OUTBOX__URL": database.url,
        "OUTSPOKEN_RELAY__PORT": str(ports[0]),
        "OUTSPOKEN_RELAY__ADMIN__PORT": str(ports[1]),
        "OUTSPOKEN_RELAY__ADMIN__TOKEN": TOKEN,
    }
    program = Path(sys.executable).with_name("relay")
    with subprocess.Popen([program, "run"], stdout=subprocess.PIPE, env=environ, cwd=database.path.parent) as process:
        assert process.stdout
        try:
            assert any(b"relay.ready" in line for line in process.stdout)
            yield process
        finally:
            process.kill()


def test_an_open_page_says_when_the_relay_is_gone_and_goes_on_when_it_is_back(
    chromium: Browser, database: Database
) -> None:
    """Killed it has not answered since; stopped it was stopped. What it knew of attempts it knows after a restart."""
    ports, now = (free_port(), free_port()), time.time()
    put(database, new())
    ended(database, "d1", "delivered", at=now - 90, outcome="success", status=200)
    visit = chromium.new_context()
    session = Authenticator(TOKEN).session("Ada", now)
    address = f"http://127.0.0.1:{ports[1]}"
    visit.add_cookies([{"name": COOKIE, "value": session, "url": address, "sameSite": "Strict"}])
    page = visit.new_page()
    with a_relay(database, ports):
        page.goto(address)
        expect(page.locator(".lost")).to_be_hidden()
        expect(page.locator(".chart")).to_contain_text("at most 1 in one")
    expect(page.get_by_role("alert")).to_contain_text("The relay has not answered since", timeout=5_000)
    with a_relay(database, ports) as process:
        expect(page.get_by_role("alert")).to_be_hidden()
        put(database, new("d2"))
        ended(database, "d2", at=now)
        expect(page.get_by_role("heading", level=1)).to_contain_text("1 endpoint needs attention")
        process.send_signal(signal.SIGSTOP)
        expect(page.get_by_role("alert")).to_contain_text("The relay has not answered since")
        process.send_signal(signal.SIGCONT)
        expect(page.get_by_role("alert")).to_be_hidden()
        process.terminate()
        expect(page.get_by_role("alert")).to_contain_text("The relay was stopped at")
        assert process.wait(20) == 0
    visit.close()


def test_a_list_renews_itself_and_keeps_what_was_chosen_and_opened(
    chromium: Browser, alone: str, database: Database
) -> None:
    put(database, *many(60))
    with signed_in(chromium, alone, viewport={"width": 1280, "height": 500}) as page:
        page.goto(f"{alone}/deliveries")
        page.get_by_label("Select d40").check()
        page.mouse.wheel(0, 600)
        page.wait_for_function("() => scrollY > 300")
        scrolled = page.evaluate("scrollY")
        put(database, new("fresh"))
        expect(page.get_by_text("fresh", exact=True)).to_be_attached()
        expect(page.get_by_label("Select d40")).to_be_checked()
        assert abs(page.evaluate("scrollY") - scrolled) < 60  # a row was added above
        ill(database)
        page.goto(f"{alone}/destinations")
        page.get_by_text("to look at").click()
        put(database, new("more", "https://more.example/"))
        expect(page.get_by_text("https://more.example:443")).to_be_visible()
        expect(page.get_by_text("It failed 5 times in a row")).to_be_visible()


def test_a_filter_changes_the_list_and_the_url_without_another_page(chromium: Browser, address: str) -> None:
    with signed_in(chromium, address) as page:
        page.goto(f"{address}/deliveries")
        page.evaluate("window.same = true")
        page.get_by_label("State").select_option("dead")
        page.wait_for_url("**/deliveries?state=dead*")
        expect(page.locator("tbody tr")).to_have_count(1)
        assert page.evaluate("window.same") is True


def test_a_canary_in_body_header_and_url_never_sings(chromium: Browser, address: str) -> None:
    with signed_in(chromium, address) as page:
        paths = [*PAGES.values(), f"/deliveries/{quote(CANARY, safe='')}"]
        paths += [f"{where}={quote(CANARY)}" for where in ("/deliveries?id_prefix", "/destinations?text", "/audit?act")]
        for path in paths:
            page.goto(address + path)
            assert page.evaluate("window.sang") is None, path
        page.goto(f"{address}/deliveries/canary")
        page.get_by_role("button", name="Reveal").click()
        expect(page.locator("section:has(#body) pre")).to_have_text(CANARY)
        expect(page.locator("main")).to_contain_text("x-song")
        assert page.evaluate("window.sang") is None
        assert page.locator("main img, main script:not([type='application/json'])").count() == 0


def test_everything_can_be_done_by_keyboard_alone(chromium: Browser, alone: str, database: Database) -> None:
    put(database, *many(2))
    ended(database, "d1")
    ended(database, "d2")
    with signed_in(chromium, alone) as page:
        page.goto(f"{alone}/deliveries?state=dead")
        page.keyboard.press("Tab")
        assert focused(page) == "Skip to the page"
        page.keyboard.press("Enter")
        press_until(page, "Tab", "Select d1")
        page.keyboard.press("Space")
        press_until(page, "Tab", "Send selected again…")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Send again")
        press_until(page, "Tab", "Send 1 again")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text("It goes out again.")
        assert states(database) == {"d1": "pending", "d2": "dead"}
        page.goto(f"{alone}/destination?origin={ORIGIN}")
        press_until(page, "Tab", f"Pause {ORIGIN}")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text("The destination is paused.")


def test_a_question_mark_lists_the_keys_and_they_lead_there(chromium: Browser, address: str) -> None:
    with signed_in(chromium, address) as page:
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_contain_text("find a delivery by its id")
        page.keyboard.press("Escape")
        page.keyboard.press("/")
        page.keyboard.type("d?")
        expect(page.get_by_role("searchbox")).to_have_value("d?")
        expect(page.get_by_role("dialog")).to_be_hidden()
        page.get_by_role("searchbox").blur()
        page.keyboard.press("d")
        page.wait_for_url("**/destinations")


def press_until(page: Page, key: str, name: str) -> None:
    for _ in range(60):
        page.keyboard.press(key)
        if focused(page) == name:
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", name
            return
    raise AssertionError(f"no key press leads to {name!r}")


def focused(page: Page) -> str:
    named = "(e => e.getAttribute('aria-label') || e.textContent)(document.activeElement)"
    return re.sub(r"\s+", " ", str(page.evaluate(named))).strip()


def test_without_javascript_everything_is_there_and_works(chromium: Browser, alone: str, database: Database) -> None:
    put(database, *many(3))
    ended(database, "d1")
    with signed_in(chromium, alone, java_script_enabled=False) as page:
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("Admin token").fill(TOKEN)
        page.get_by_label("Your name").fill("Ada")
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator(".plot svg")).to_be_visible()
        page.get_by_role("link", name="Deliveries", exact=True).click()
        page.get_by_label("State").select_option("dead")
        page.get_by_role("button", name="Filter").click()
        expect(page.locator("tbody tr")).to_have_count(1)
        page.get_by_label("Select d1").check()
        page.get_by_role("button", name="Send selected again…").click()
        page.get_by_role("button", name="Send 1 again").click()
        expect(page.get_by_role("status")).to_have_text("It goes out again.")
        page.get_by_role("link", name=ORIGIN).click()
        page.get_by_role("button", name=f"Pause {ORIGIN}").click()
        expect(page.get_by_role("status")).to_have_text("The destination is paused.")
        page.get_by_role("button", name="Resume").click()
        page.get_by_role("button", name="Make a key").click()
        expect(page.locator("pre")).to_contain_text("whsec_")
        page.get_by_role("link", name="Audit").click()
        expect(page.locator("main")).to_contain_text("Ada console key.rotate", use_inner_text=True)
    assert states(database)["d1"] == "pending"


def test_a_narrow_screen_has_no_sideways_scrolling(chromium: Browser, address: str) -> None:
    with signed_in(chromium, address, viewport={"width": 390, "height": 800}) as page:
        for name in ("Now", "Deliveries", "Delivery", "Destination"):
            page.goto(address + PAGES[name])
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
