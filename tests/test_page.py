"""The report in a browser: filters, search, links, widths, accessibility, speed. Needs chromium and its driver."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent / "results" / "report.html"
PROGRAMS = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
MISSING = [name for name, path in PROGRAMS.items() if path is None]
MISSING += [name for name in ("selenium", "axe_core_python") if find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"no {', '.join(MISSING)} (Debian: apt install chromium chromium-driver; "
    "pip install -r requirements-browser.txt)",
)  # fmt: skip
WIDTHS = {1280: 800, 390: 844, 360: 740}


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = PROGRAMS["chromium"] or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(PROGRAMS["chromedriver"] or ""))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser):
    """Open the page at a width, with an address's ending; returns a function that runs a script on it."""

    def open_page(width: int = 1280, ending: str = ""):
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": WIDTHS[width], "deviceScaleFactor": 1, "mobile": width < 500})  # fmt: skip
        browser.get("about:blank")
        browser.get(PAGE.as_uri() + ending)
        return browser.execute_script

    yield open_page
    assert browser.get_log("browser") == []


SHOWN = "return [...document.querySelectorAll('.claim:not(.hidden)')].map(claim => claim.id)"
CHIP = "document.querySelector('.chips [data-verdict=\"{}\"]')"


def type_in(name: str, text: str) -> str:
    return f"const e = document.getElementById('{name}'); e.value = '{text}'; e.dispatchEvent(new Event('input'));"


@pytest.mark.parametrize("width", WIDTHS)
def test_no_screen_scrolls_sideways_and_its_first_shows_a_picture(opened, width):
    run = opened(width)
    run("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
    assert run("return document.documentElement.scrollWidth") == width
    run = opened(width)
    assert run("return document.querySelector('figure svg').getBoundingClientRect().top") < WIDTHS[width] - 200


@pytest.mark.parametrize("width", [1280, 360])
def test_the_numbers_of_an_axis_stay_inside_it_and_apart(opened, width):
    run = opened(width)
    axes = run("""const ends = part => { const box = part.getBoundingClientRect(); return [box.left, box.right]; };
        const shown = [...document.querySelectorAll('.bounds')].filter(axis => axis.checkVisibility());
        return shown.map(axis => [axis, ...axis.children].map(ends))""")
    assert len(axes) > 10
    for (left, right), *numbers in axes:
        assert all(left - 1 <= start and end <= right + 1 for start, end in numbers)
        assert all(one[1] <= other[0] + 1 for one, other in zip(numbers, numbers[1:], strict=False))


def test_a_chip_shows_the_claims_that_it_counts(opened):
    run = opened()
    everything = run(SHOWN)
    counted = int(run(f"return {CHIP.format('not reproduced')}.querySelector('b').textContent"))
    run(f"{CHIP.format('not reproduced')}.click()")
    assert 0 < len(run(SHOWN)) == counted < len(everything)
    assert run("return getComputedStyle(document.querySelector('.pictures')).display") == "none"
    run("document.getElementById('clear').click()")
    assert run(SHOWN) == everything


def test_search_and_filters_narrow_what_is_shown_together(opened):
    run = opened()
    run(type_in("figure", "5"))
    figure = run(SHOWN)
    assert figure and all(key.startswith("fig5-") for key in figure)
    run(type_in("search", "robust RANGE"))
    assert "fig5-robust-range" in run(SHOWN) and set(run(SHOWN)) < set(figure)
    run(type_in("tier", "short"))
    run(type_in("fixed", "after"))
    fixed = run("return [...document.querySelectorAll('.claim:not(.hidden)')].every(claim => claim.querySelector("
                "'[data-tier=short][data-fixed=after]'))")  # fmt: skip
    assert fixed
    run(type_in("search", "no such words"))
    assert run(SHOWN) == [] and run("return document.getElementById('shown').textContent").startswith("0 of")


def test_a_link_to_a_claim_opens_what_it_is_folded_in(opened):
    folded = opened()("return document.querySelector('details.fold .claim').id")
    run = opened(ending=f"#{folded}")
    assert run(f"return document.getElementById('{folded}').checkVisibility()")
    top = run(f"return document.getElementById('{folded}').getBoundingClientRect().top")
    assert 0 <= top < WIDTHS[1280]


@pytest.mark.parametrize("width", [1280, 390])
def test_what_a_link_leads_to_is_not_below_the_filters(opened, width):
    for target in ("paper-figure2", "figure-5", "fig2-powersgd-caption"):
        run = opened(width, f"#{target}")
        assert run(f"""const box = document.getElementById('{target}').getBoundingClientRect();
            const tools = document.querySelector('.tools').getBoundingClientRect();
            return box.top >= tools.bottom && box.top < {WIDTHS[width] // 2};"""), target


def test_evidence_opens_to_its_runs(browser, opened):
    run = opened(ending="#fig2-powersgd-lower-lr")
    run("document.querySelector('#fig2-powersgd-lower-lr details.evidence > summary').click()")
    browser.implicitly_wait(2)
    (table,) = browser.find_elements("css selector", "#fig2-powersgd-lower-lr .runs > table")
    rows = [line.text for line in table.find_elements("css selector", "tbody tr")]
    assert len(rows) == 5 and all("powersgd 0.01 0.4" in row for row in rows)


@pytest.mark.parametrize(
    ("width", "colours"),
    [(390, "light"), pytest.param(1280, "dark", marks=pytest.mark.slow)],
)
def test_axe_finds_nothing_serious(browser, opened, width, colours):
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia",
                            {"features": [{"name": "prefers-color-scheme", "value": colours}]})  # fmt: skip
    run = opened(width)
    run("document.querySelectorAll('details.fold, #fig2-quickly details').forEach(fold => { fold.open = true; })")
    run("document.querySelectorAll('svg').forEach(picture => picture.replaceChildren())")  # 50 s of role=img's insides
    run(
        "document.querySelectorAll('.claim').forEach((one, place) => { if (place % 10) one.remove(); })"
    )  # one template
    spec = find_spec("axe_core_python")
    assert spec and spec.origin
    run((Path(spec.origin).parent / "axe.min.js").read_text() + ";window.axe = axe")
    browser.set_script_timeout(60)
    found = browser.execute_async_script(
        "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(result => done("
        "result.violations.map(one => [one.impact, one.id, one.nodes.length, one.nodes[0].html])))"
    )
    assert [one for one in found if one[0] in ("serious", "critical")] == []


@pytest.mark.slow  # a busy machine would fail it
def test_it_is_interactive_within_a_second(opened):
    times = []
    for _ in range(3):
        timing = opened()("return performance.getEntriesByType('navigation')[0].domInteractive")
        times.append(timing)
    assert min(times) < 1000
