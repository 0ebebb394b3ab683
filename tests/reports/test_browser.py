"""The report page in a browser: it draws, asks nobody, answers clicks and keys, and stays as it is set while it is live."""

import math
import shutil
import statistics
from contextlib import contextmanager

import pytest

from latent.reports.page import page as pages
from latent.reports.page.charts import charts, rows
from latent.reports.page.data import sections
from latent.reports.runs import read_runs
from tests.processes import AT_LAST
from tests.reports.made_runs import made_run
from tests.reports.test_serve import serving

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("altair")
pytest.importorskip("vl_convert")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.skipif(BROWSER is None, reason="there is no Chromium"), pytest.mark.xdist_group("browser")]

KEEP_VIEWS = """
let original;
window.views = {};
Object.defineProperty(window, "vegaEmbed", {
  set(value) { original = value; },
  get() { return (place, ...rest) => original(place, ...rest).then((result) => {
    window.views[place.dataset.chart] = result.view;
    return result;
  }); },
});
"""
"""Charts keep their views to themselves; this lets tests ask what each one drew."""
SETTLED = "#content[aria-busy=false]"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for seed in range(3):
        made_run(folder, "dense", seed, level=0.9)
        made_run(folder, "sparsemax", seed, level=0.7, probes=True)
        made_run(folder, {"name": "score_function", "baseline": "</script><b>"}, seed, level=0.5)
    made_run(folder, {"name": "score_function", "baseline": "nvil"}, state="failed", level=0.6)
    made_run(folder, "sparsemax", 3, state="stopped", level=0.7, probes=True)
    return folder


@pytest.fixture(scope="module")
def section(results):
    (only,) = sections(read_runs([results], unfinished=True))
    return only


@pytest.fixture(scope="module")
def file(results, section):
    path = results / "report.html"
    path.write_text(pages.page(pages.build([section], section.runs, lambda file: file.relative_to(results).as_posix())))
    return path


@contextmanager
def opener(browser, file):
    """Opens pages, and afterwards fails where one had errors or asked for anything but the page."""
    errors, asked, contexts = [], [], []

    def open_page(url=None, width=1280, scheme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme))
        contexts[-1].set_default_timeout(AT_LAST * 1000)
        page = contexts[-1].new_page()
        page.add_init_script(KEEP_VIEWS)
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url or file.as_uri())
        page.wait_for_selector(SETTLED)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [error for error in errors if "net::ERR_" not in error] == []  # those are of a server that has stopped
    assert asked
    assert all(url == file.as_uri() or url.startswith("http://127.0.0.1") for url in asked)


@pytest.fixture
def opened(browser, file):
    with opener(browser, file) as open_page:
        yield open_page


@pytest.fixture(scope="module")
def page(browser, file):
    """One that tests look at and leave as it is."""
    with opener(browser, file) as open_page:
        yield open_page()


def labels(page):
    return page.locator("table.results tbody th").all_inner_texts()


def signal(page, name, chart=0):
    return page.evaluate(f"views[{chart}].signal({name!r})")


def ink(page, chart):
    """How much of a canvas is of another colour than its corner."""
    return page.evaluate(
        """(chart) => {
          const canvas = document.querySelector(`[data-chart="${chart}"] canvas`);
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          let other = 0;
          for (let i = 4; i < data.length; i++) other += data[i] !== data[i % 4];
          return other / data.length;
        }""",
        chart,
    )


def test_every_chart_is_drawn_and_has_words_for_those_who_do_not_see_it(page, section):
    drawn = charts(section)
    assert page.locator("canvas").count() == len(drawn) == 10
    for number, chart in enumerate(drawn):
        assert 0.01 < ink(page, number) < 0.9
        words = page.locator(f"[data-chart='{number}'] [role=graphics-document]").get_attribute("aria-label")
        assert words.startswith(chart.title)
        if chart.name == "headline_steps":
            assert "dense 0.89" in words
    assert page.title() == "signal_game – report"
    assert [heading.inner_text() for heading in page.locator("h1, h2").all()] == ["signal_game", "signal_game on emoji"]
    for landmark in ("header", "main", "footer"):
        assert page.locator(landmark).count() == 1
    assert page.locator("b, img").count() == 0  # a label's tags are text


def test_the_script_makes_the_rows_that_figures_are_drawn_from(page, section):
    for number, chart in enumerate(charts(section)):
        seeds, means = rows(section, chart)
        expected = {"seeds": seeds, "means": means}
        for name in expected:
            found = page.evaluate(f"views[{number}].data('{name}')")
            assert len(found) == len(expected[name]) > 0
            for got, wanted in zip(found, expected[name], strict=True):
                for key, value in wanted.items():
                    same = (
                        math.isclose(got[key], value, rel_tol=1e-4, abs_tol=1e-9)
                        if isinstance(value, float)
                        else got[key] == value
                    )
                    assert same, (chart.name, name, key, got, wanted)


def test_the_table_says_what_the_runs_say(page, results):
    runs = read_runs([results])
    for line in page.locator("table.results tbody tr").all():
        name = line.get_attribute("data-label").split()[0]
        values = [run["summary"]["test/success_rate"] for run in runs if run["configuration"]["estimator"]["name"] == name]
        cell = line.locator("td[data-std]").first
        assert float(cell.get_attribute("data-value")) == statistics.mean(values)
        assert cell.inner_text() == f"{100 * statistics.mean(values):.2f} ± {100 * statistics.stdev(values):.2f}"
    assert page.locator("table.results tbody tr").count() == 3


def test_columns_sort_by_click_and_by_key(opened):
    page = opened()
    score, dense, sparsemax = "score_function", "dense", "sparsemax"
    assert [label.split()[0] for label in labels(page)] == [dense, sparsemax, score]
    calls = page.get_by_role("button", name="Test decoder calls per example")
    calls.click()
    assert [label.split()[0] for label in labels(page)] == [dense, sparsemax, score]
    calls.click()
    assert [label.split()[0] for label in labels(page)] == [score, sparsemax, dense]
    headings = page.locator("table.results thead th")
    assert [each.get_attribute("aria-sort") for each in headings.all()].count("ascending") == 1
    page.get_by_role("button", name="Estimator", exact=True).focus()
    page.keyboard.press("Enter")
    assert [label.split()[0] for label in labels(page)] == [dense, score, sparsemax]
    assert headings.first.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Space")
    assert [label.split()[0] for label in labels(page)] == [sparsemax, score, dense]
    assert headings.first.get_attribute("aria-sort") == "descending"


def test_estimators_and_seeds_are_hidden_and_shown_in_every_chart(opened, section):
    page = opened()
    with_all = ink(page, 1)
    dense = page.get_by_role("button", name="dense", exact=True)
    assert dense.get_attribute("aria-pressed") == "true"
    dense.focus()
    page.keyboard.press("Space")
    assert dense.get_attribute("aria-pressed") == "false"
    assert all(signal(page, "hidden", chart) == ["dense"] for chart in range(10))
    page.wait_for_function("views[1].getState().signals.hidden.length === 1")
    hidden_one = ink(page, 1)
    assert hidden_one != with_all
    page.get_by_role("button", name="Show seeds").click()
    assert page.get_by_role("button", name="Show seeds").get_attribute("aria-pressed") == "false"
    assert signal(page, "single") is False
    assert ink(page, 1) != hidden_one
    page.get_by_role("button", name="Hide all").click()
    assert page.locator("[data-action=estimator][aria-pressed=true]").count() == 0
    assert len(signal(page, "hidden")) == len(section.shown)
    page.get_by_role("button", name="Show all").click()
    page.get_by_role("button", name="Show seeds").click()
    assert signal(page, "hidden") == []
    page.wait_for_function("views[1].getState().signals.single")
    assert ink(page, 1) == pytest.approx(with_all, rel=0.02)


def test_the_nearest_seed_says_what_it_is(page):
    chart = page.locator("[data-chart='1'] canvas")
    chart.scroll_into_view_if_needed()
    page.evaluate("document.querySelector('[data-chart=\"1\"]').scrollIntoView({block: 'center', behavior: 'instant'})")
    box = chart.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.80 * box["height"])
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.82 * box["height"], steps=3)
    page.wait_for_selector("#vg-tooltip-element.visible")
    keys = page.locator("#vg-tooltip-element td.key").all_inner_texts()
    values = page.locator("#vg-tooltip-element td.value").all_inner_texts()
    assert [key.rstrip(":") for key in keys] == ["estimator", "seed", "step", "validation success rate"]
    assert values[0] == "score_function baseline=</script><b>"
    assert values[1] in "012"
    assert values[3].endswith("%")


def test_dark_and_light(opened):
    page = opened()
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    before = page.evaluate("views[0].background()")
    button = page.get_by_role("button", name="Dark")
    button.click()
    page.wait_for_selector(SETTLED)
    assert button.get_attribute("aria-pressed") == "true"
    assert page.evaluate(background) == "rgb(20, 23, 28)"
    assert page.evaluate("views[0].background()") != before
    page.reload()  # the choice is remembered
    page.wait_for_selector(SETTLED)
    assert page.evaluate(background) == "rgb(20, 23, 28)"
    preferred = opened(scheme="dark")
    assert preferred.evaluate(background) == "rgb(20, 23, 28)"
    assert preferred.get_by_role("button", name="Dark").get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("width", [400, 1600])
def test_the_page_fits(opened, width):
    page = opened(width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for box in (canvas.bounding_box() for canvas in page.locator("canvas").all()):
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    first, second = (page.locator("canvas").nth(i).bounding_box() for i in (0, 1))
    assert (second["y"] == pytest.approx(first["y"], abs=2)) == (width == 1600)
    page.set_viewport_size({"width": 700, "height": 800})
    page.wait_for_function("document.documentElement.scrollWidth <= 700 && document.querySelector('canvas').clientWidth > 500")


def test_a_live_page_shows_new_runs_and_stays_as_it_was_set(opened, tmp_path):
    for seed in range(2):
        made_run(tmp_path, "dense", seed, level=0.9)
        made_run(tmp_path, "sparsemax", seed, level=0.8)
        made_run(tmp_path, "sparsemax", seed, task="vae")
    with serving(tmp_path) as server:
        page = opened(f"http://127.0.0.1:{server.server_port}/", width=500)
        page.get_by_role("button", name="Estimator", exact=True).first.click()
        page.get_by_role("button", name="dense", exact=True).click()
        page.get_by_role("button", name="Show seeds").click()
        page.evaluate("scrollTo({top: 900, behavior: 'instant'})")
        made_run(tmp_path, "score_function", 0, level=0.5)
        page.wait_for_function("document.querySelectorAll('#s0 table.results tbody tr').length === 3")
        page.wait_for_selector(SETTLED)
        assert labels(page)[:3] == ["dense", "score_function", "sparsemax"]
        assert page.get_by_role("button", name="dense", exact=True).get_attribute("aria-pressed") == "false"
        assert page.get_by_role("button", name="Show seeds").get_attribute("aria-pressed") == "false"
        assert signal(page, "hidden") == ["dense"]
        assert signal(page, "single") is False
        assert page.evaluate("scrollY") == 900
        assert page.evaluate("document.activeElement.id") == "single"
        assert page.get_by_role("button", name="score_function").get_attribute("aria-pressed") == "true"
    page.wait_for_function("document.getElementById('status').textContent.startsWith('The server does not answer')")
    page.close()
