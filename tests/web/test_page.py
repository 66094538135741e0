"""The page in a real browser (Chromium), on real servers: every button, hostile names, login, dark mode, keyboard."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import numpy as np
import pytest
import requests
from conftest import Node, Server, ServerFactory, free_port
from pymilvus import DataType, MilvusClient

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, expect, sync_playwright
else:
    playwright = pytest.importorskip("playwright.sync_api")
    expect, sync_playwright = playwright.expect, playwright.sync_playwright

pytestmark = pytest.mark.web

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
PASSWORD = "Tr0ub4dor é"
ROWS, DIM = 60, 8
_REQUIRED = ("CI", "MILVINE_REQUIRE_TOOLCHAINS")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None and not any(os.environ.get(name, "") not in ("", "0") for name in _REQUIRED):
        pytest.skip("no Chromium is installed")
    assert path is not None, "CI needs Chromium"
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        started = playwright.chromium.launch(executable_path=path, args=arguments)
        yield started
        started.close()


def _fill(client: MilvusClient) -> None:
    schema = client.create_schema(enable_dynamic_field=True, description=HOSTILE)
    schema.add_field("id", DataType.INT64, is_primary=True, description=HOSTILE)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("title", DataType.VARCHAR, max_length=200)
    index = client.prepare_index_params("vector", index_type="HNSW", metric_type="L2")
    client.create_collection("shop", schema=schema, index_params=index)
    vectors = np.random.default_rng(0).normal(size=(ROWS, DIM)).tolist()
    rows = [
        {"id": 2**60 + i, "vector": v, "title": f"{HOSTILE} {i}", "color": ["red", "blue"][i % 2], HOSTILE: HOSTILE}
        for i, v in enumerate(vectors)
    ]
    client.insert("shop", rows)
    client.flush("shop")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without authorization, to which every request is a slow one."""
    environment = {"MILVINE_PROXY_SLOWQUERYSPANINSECONDS": "0.000001"}
    with Server(tmp_path_factory.mktemp("page"), env=environment).running() as server:
        client = server.client()
        _fill(client)
        client.close()
        yield server


@pytest.fixture
def complaints() -> list[str]:
    """What the browser's console, its dialogs and its network have to complain about."""
    return []


def _watched(page: Page, complaints: list[str], host: str) -> Page:
    page.set_default_timeout(20_000)
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(host) else complaints.append(r.url))

    def refuse(dialog: Any) -> None:
        complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("dialog", refuse)
    return page


@pytest.fixture
def page(browser: Browser, shop: Server, complaints: list[str]) -> Iterator[Page]:
    context = browser.new_context()
    yield _watched(context.new_page(), complaints, shop.uri)
    context.close()
    assert not complaints


def _picture(page: Page, name: str, directory: Path) -> None:
    """Is kept in MILVINE_SCREENSHOTS, to be looked at, or in `directory`. Nothing is wider than the window."""
    kept = Path(os.environ.get("MILVINE_SCREENSHOTS", directory))
    page.screenshot(path=kept / f"{name}.png", full_page=True, timeout=30_000)
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, name


def _open(page: Page, server: Server, place: str) -> Page:
    page.goto(f"{server.uri}/#/{place}")
    return page


@pytest.fixture(scope="module")
def with_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose loaded segments are on a query node."""
    directory, port = tmp_path_factory.mktemp("nodes"), free_port()
    node = Node(port, directory / "node")
    with Server(directory / "head", env={"MILVINE_CLUSTER_PORT": str(port)}).running() as server:
        node.start()
        try:
            client = server.client()
            _fill(client)
            client.close()
            yield server
        finally:
            node.kill()


def test_query_nodes_show_their_group_segments_and_memory(
    browser: Browser, with_nodes: Server, complaints: list[str]
) -> None:
    context = browser.new_context()
    page = _open(_watched(context.new_page(), complaints, with_nodes.uri), with_nodes, "collections")
    row = page.locator("section", has_text="Query nodes").locator("tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("__default_resource_group")
    expect(row).to_contain_text("answers")
    expect(row.locator("td").nth(3)).to_have_text("1")
    expect(row).to_contain_text("KB")
    context.close()
    assert not complaints


def test_collections_show_state_rows_and_memory_and_are_loaded_and_released(page: Page, shop: Server) -> None:
    _open(page, shop, "collections")
    row = page.locator("tr", has_text="shop")
    expect(row).to_contain_text("Loaded")
    expect(row).to_contain_text(str(ROWS))
    expect(row).to_contain_text("KB")
    expect(page.locator(".budget")).to_contain_text("in memory")
    page.get_by_label("Release shop").click()
    expect(row).to_contain_text("Not loaded")
    page.get_by_label("Load shop", exact=True).click()
    expect(row.locator(".LoadStateLoaded")).to_be_visible()
    page.get_by_label("Find a collection").fill("nothing like it")
    expect(page.locator("main")).to_contain_text("No collection has such a name.")


def test_chosen_fields_are_estimated_and_loaded(page: Page, shop: Server) -> None:
    _open(page, shop, "collections")
    page.get_by_label("Choose fields of shop").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("It fits.")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.get_by_label("Choose fields of shop").click()
    dialog.get_by_text("Cancel").click()
    expect(dialog).to_be_hidden()
    page.get_by_label("Release shop").click()
    page.get_by_label("Load shop", exact=True).wait_for()
    page.get_by_label("Choose fields of shop").click()
    dialog.get_by_role("checkbox", name="title").uncheck()
    dialog.get_by_role("checkbox", name="$meta").uncheck()
    expect(dialog.locator("tbody")).not_to_contain_text("title")
    dialog.get_by_text("Load these").click()
    page.get_by_label("Release shop").wait_for()
    page.get_by_role("link", name="shop").click()
    parts = page.locator("section", has_text="By field and index")
    expect(parts).to_contain_text("vector")
    expect(parts).not_to_contain_text("title")
    page.get_by_label("Release shop").click()
    page.get_by_label("Load shop", exact=True).click()
    expect(parts).to_contain_text("title")


def test_hostile_names_and_values_are_text(page: Page, shop: Server, complaints: list[str]) -> None:
    _open(page, shop, "collection/shop/schema")
    expect(page.locator("section", has_text="Fields").first).to_contain_text(HOSTILE)
    expect(page.locator("dl")).to_contain_text(HOSTILE)
    expect(page.locator("section", has_text="Indexes")).to_contain_text("HNSW")
    _open(page, shop, "collection/shop/data")
    expect(page.locator("th", has_text=HOSTILE)).to_be_visible()
    expect(page.locator("td", has_text=HOSTILE).first).to_be_visible()
    assert page.locator("main img, main script").count() == 0
    _open(page, shop, f"collection/{quote(HOSTILE, safe='')}")
    expect(page.locator(".problem").first).to_contain_text("<img")
    assert page.locator("main img, main script").count() == 0


def test_rows_are_filtered_counted_and_paged_with_whole_keys(page: Page, shop: Server) -> None:
    _open(page, shop, "collection/shop/data")
    expect(page.locator("tbody tr")).to_have_count(20)
    expect(page.locator("tbody")).to_contain_text(str(2**60 + 1))
    page.get_by_text("Next", exact=True).click()
    expect(page.locator("main")).to_contain_text("rows 21 to 40")
    page.get_by_text("Back", exact=True).click()
    expect(page.locator("main")).to_contain_text("rows 1 to 20")
    page.get_by_label("Filter").fill('color == "blue"')
    page.get_by_text("Count", exact=True).click()
    expect(page.locator("main")).to_contain_text("30 rows match")
    page.get_by_label("vectors").check()
    page.get_by_text("Show", exact=True).click()
    expect(page.locator("thead")).to_contain_text("vector")
    page.get_by_label("Filter").fill("color ==")
    page.keyboard.press("Enter")
    expect(page.locator(".problem:visible")).to_contain_text("cannot parse expression")


def test_a_search_by_vector_and_by_key_is_shown_explained_and_drawn(page: Page, shop: Server) -> None:
    _open(page, shop, "collection/shop/search")
    page.get_by_text("Take the first row's vector").click()
    expect(page.get_by_label("Query")).to_have_value(re.compile(r"^\[.*\]$"))
    page.get_by_label("Limit").fill("5")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator("main")).to_contain_text("5 hits in")
    page.get_by_text("Explain", exact=True).click()
    plan = page.locator("section", has_text="How each segment was searched")
    expect(plan.locator("tbody")).to_contain_text("sealed")
    expect(plan.locator("tbody")).to_contain_text("100 %")
    page.get_by_label("Search by").select_option("key")
    page.get_by_label("Query").fill(str(2**60 + 3))
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator("tbody").first).to_contain_text(str(2**60 + 3))
    page.get_by_text("Show them on the map").click()
    expect(page.locator("circle.hit")).to_have_count(5)
    page.get_by_label("Sample").select_option("500")
    page.get_by_label("Colour by").first.fill("color")
    page.get_by_text("Draw", exact=True).click()
    expect(page.locator(".legend")).to_contain_text("blue")
    expect(page.locator("circle")).to_have_count(ROWS)


def test_work_shows_slow_requests(page: Page, shop: Server) -> None:
    _open(page, shop, "work")
    expect(page.locator("main")).to_contain_text("No segments are being merged.")
    page.get_by_text("Refresh", exact=True).click()
    expect(page.locator("time").first).to_have_text(re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$"))
    expect(page.locator("section", has_text="Slow requests").locator("tbody")).to_contain_text("shop")


def test_a_resting_collection_and_an_import_are_shown(
    browser: Browser, complaints: list[str], new_server: ServerFactory, tmp_path: Path
) -> None:
    environment = {"MILVINE_COLLECTION_IDLE_RELEASE_SECONDS": "1", "MILVINE_IMPORT_PATH": str(tmp_path)}
    server = new_server(env=environment)
    _fill(server.client())
    rows = [{"id": i, "vector": [0.5] * DIM, "title": HOSTILE} for i in range(5)]
    (tmp_path / "more.json").write_text(json.dumps(rows))
    with closing(browser.new_context()) as context:
        page = _watched(context.new_page(), complaints, server.uri)
        _open(page, server, "collections")
        badge = page.locator("tr", has_text="shop").locator(".badge")
        expect(badge).to_have_text("Resting", timeout=30_000)
        assert "given its memory back" in (badge.get_attribute("title") or "")
        _picture(page, "resting", tmp_path)
        body = {"collectionName": "shop", "files": [["more.json"]]}
        requests.post(f"{server.uri}/v2/vectordb/jobs/import/create", json=body, timeout=30)
        _open(page, server, "work")
        imports = page.locator("section", has_text="Imports").locator("tbody")
        expect(imports).to_contain_text("Completed", timeout=60_000)
        expect(imports).to_contain_text("default.shop")
        expect(imports.get_by_label("100 %")).to_be_visible()
        _picture(page, "imports", tmp_path)
    assert not complaints


def test_users_and_roles_are_made_given_and_dropped(page: Page, shop: Server) -> None:
    _open(page, shop, "access")
    page.get_by_label("New user").fill("ann")
    page.get_by_label("Password").fill("secret-1")
    page.get_by_text("Create user").click()
    page.get_by_label("New role").fill("reader")
    page.get_by_text("Create role").click()
    page.get_by_label("Role for ann").select_option("reader")
    page.get_by_label("Give the role to ann").click()
    page.get_by_label("Take reader from ann").click()
    page.get_by_label("Drop reader").click()
    page.get_by_text("Drop role").click()
    expect(page.get_by_label("Drop reader")).to_have_count(0)
    page.get_by_label("Drop ann").click()
    page.get_by_text("Cancel").click()
    expect(page.get_by_label("Drop ann")).to_be_visible()
    page.get_by_label("Drop ann").click()
    page.get_by_text("Drop user").click()
    expect(page.get_by_label("Drop ann")).to_have_count(0)


def test_a_keyboard_is_enough(page: Page, shop: Server) -> None:
    _open(page, shop, "collections")
    page.get_by_role("link", name="shop").wait_for()
    page.keyboard.press("/")
    expect(page.get_by_label("Find a collection")).to_be_focused()
    page.keyboard.type("sho")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="shop")).to_be_focused()
    page.wait_for_timeout(2500)  # a refresh of the list keeps the focus
    expect(page.get_by_role("link", name="shop")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Memory").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("Indexes")
    page.keyboard.press("2")
    expect(page.locator("h1")).to_have_text("Work")


def test_the_description_of_rest_is_shown(page: Page, shop: Server) -> None:
    page.goto(shop.uri)
    page.get_by_role("link", name="API").click()
    page.get_by_label("Find a route").fill("entities/search")
    page.locator("summary").click()
    expect(page.locator("tr", has_text="collectionName")).to_contain_text("required")
    page.get_by_text("Light or dark").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


_VIEWS = {
    "collections": "shop",
    "collection/shop/memory": "Indexes",
    "collection/shop/schema": "vector",
    "collection/shop/data": "Show",
    "collection/shop/search": "Search",
    "collection/shop/map": "Draw",
    "work": "Slow requests",
    "access": "Create user",
}


def test_each_view_fits_its_window_in_light_and_dark(
    browser: Browser, shop: Server, tmp_path: Path, complaints: list[str]
) -> None:
    windows: list[tuple[Literal["light", "dark"], int]] = [("light", 1280), ("dark", 1280), ("light", 420)]
    for scheme, width in windows:
        with closing(browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})) as context:
            page = _watched(context.new_page(), complaints, shop.uri)
            for place in (*_VIEWS, "docs"):
                page.goto(f"{shop.uri}/docs") if place == "docs" else _open(page, shop, place)
                page.wait_for_timeout(300)
                if place == "collections":
                    expect(page.get_by_label("Choose fields of shop")).to_be_in_viewport(ratio=1)
                if place == "collection/shop/data":
                    page.get_by_text("Show", exact=True).click()
                    page.locator("tbody").wait_for()
                elif place == "collection/shop/search":
                    page.get_by_text("Take the first row's vector").click()
                    page.get_by_text("Explain", exact=True).click()
                    page.locator("section", has_text="How each segment was searched").wait_for()
                elif place == "collection/shop/map":
                    page.get_by_text("Draw", exact=True).click()
                    page.locator("circle").first.wait_for()
                _picture(page, f"{place.replace('/', '-')}-{scheme}-{width}", tmp_path)
    assert not complaints


def test_dark_and_light_follow_the_system_and_the_button(browser: Browser, shop: Server, complaints: list[str]) -> None:
    context = browser.new_context(color_scheme="dark")
    page = _watched(context.new_page(), complaints, shop.uri)

    def ground() -> int:
        colour: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return int(colour.removeprefix("rgb(").split(",")[0])

    _open(page, shop, "collections")
    page.get_by_role("link", name="shop").wait_for()
    assert ground() < 64
    page.get_by_text("Light or dark").click()
    assert ground() > 192
    page.reload()
    page.get_by_role("link", name="shop").wait_for()
    assert ground() > 192
    context.close()
    assert not complaints


def _grant_and_revoke(page: Page) -> None:
    """Grants need a user who grants, so they are refused without authorization."""
    page.get_by_label("New role").fill("reader")
    page.get_by_text("Create role").click()
    page.get_by_label("Drop reader").wait_for()
    page.get_by_label("Role", exact=True).select_option("reader")
    page.get_by_label("Privilege or group").fill("Search")
    page.get_by_text("Grant", exact=True).click()
    page.get_by_label("Take Search from reader").click()
    expect(page.get_by_label("Take Search from reader")).to_have_count(0)


def test_with_authorization_the_page_asks_for_a_login(browser: Browser, tmp_path: Path, complaints: list[str]) -> None:
    environment = {"MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED": "true"}
    server = Server(tmp_path / "server", env=environment)
    context = browser.new_context()
    try:
        root = server.start().client(token="root:Milvus")
        root.create_collection("books", dimension=4)
        root.create_user("ann", PASSWORD)
        root.create_database("archive")
        root.close()
        login = {"Authorization": "Bearer root:Milvus"}
        made = f"{server.uri}/milvine/v1/api_keys/create"
        body = {"userName": "root", "keyName": "page", "roles": ["admin"]}
        key = requests.post(made, json=body, headers=login, timeout=30).json()["data"]["apiKey"]
        page = _watched(context.new_page(), complaints, server.uri)
        page.goto(server.uri)
        page.get_by_label("User").wait_for()
        _picture(page, "login", tmp_path)
        page.get_by_label("User").fill("ann")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.locator(".problem:visible")).to_contain_text("does not know this user")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        expect(page.locator("header")).to_contain_text("ann")
        expect(page.locator("main")).to_contain_text("This database has no collections.")
        page.get_by_text("Log out").click()
        page.get_by_label("User").fill("root")
        page.get_by_label("Password").fill("Milvus")
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name="books")).to_be_visible()
        page.get_by_role("link", name="Users and roles").click()
        _grant_and_revoke(page)
        page.get_by_text("Log out").click()
        page.get_by_text("With an API key").click()
        page.get_by_label("API key").fill(key)
        page.get_by_text("Use key").click()
        page.get_by_role("link", name="Collections").click()
        expect(page.get_by_role("link", name="books")).to_be_visible()
        page.get_by_label("Database").select_option("archive")
        expect(page.locator("main")).to_contain_text("This database has no collections.")
        assert page.evaluate("JSON.stringify(localStorage)") == "{}"
        assert page.evaluate("document.cookie") == ""
        refused = [text for text in complaints if "401" not in text]
        assert not refused
    finally:
        context.close()
        server.close()
