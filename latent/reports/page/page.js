// The page's own script: draws the charts from the one copy of the data, and answers the buttons.
// Whatever a reader has chosen is in `state`, so that new content of a live page can be shown in the same way.
(() => {
  "use strict";
  const root = document.documentElement;
  const content = document.getElementById("content");
  const status = document.getElementById("status");
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  let island = JSON.parse(document.getElementById("island").textContent);
  const state = { theme: remembered(), single: null, hidden: new Map(), sort: new Map(), open: new Set() };
  const drawn = []; // { section, result } of each chart
  let drawing = 0;
  let pending = Promise.resolve();

  function remembered() {
    try {
      return localStorage.getItem("latent-theme");
    } catch {
      return null; // some browsers keep nothing for files
    }
  }

  const isDark = () => (state.theme ? state.theme === "dark" : preferred.matches);
  const sectionOf = (element) => element.closest("[data-section]");
  const hiddenIn = (section) => state.hidden.get(island.sections[section].problem) ?? new Set();

  // Charts.

  function points(columns, chart) {
    const { step, [chart.x]: x, [chart.y]: y } = columns;
    return step.map((each, i) => ({ step: each, x: x[i], y: y[i], i })).filter((row) => row.x !== null && row.y !== null);
  }

  function rows(chart) {
    const { estimators, seeds, means } = island.sections[chart.section];
    const counted = new Map(means.map((mean) => [mean.estimator, mean.seeds]));
    const single = seeds.flatMap(({ estimator, run, seed, curves }) =>
      chart.kind in curves
        ? points(curves[chart.kind], chart).map((row) => ({ ...row, estimator: estimators[estimator], run, seed, seeds: counted.get(estimator) }))
        : [],
    );
    const mean = means.flatMap(({ estimator, seeds: count, curves, spreads }) => {
      if (!(chart.kind in curves)) return [];
      const found = points(curves[chart.kind], chart);
      const spread = spreads[chart.kind];
      return found.map((row, i) => ({
        ...row,
        estimator: estimators[estimator],
        seeds: count,
        last: i === found.length - 1,
        x_std: spread[chart.x][row.i],
        y_std: spread[chart.y][row.i],
      }));
    });
    return { seeds: single, means: mean };
  }

  async function draw(place) {
    const chart = island.charts[place.dataset.chart];
    const specification = structuredClone(chart.specification);
    specification.datasets = { ...specification.datasets, ...rows(chart) };
    const values = { hidden: [...hiddenIn(chart.section)], single: state.single };
    for (const parameter of specification.params) {
      if (parameter.name in values) parameter.value = values[parameter.name];
    }
    const dark = isDark();
    try {
      const result = await vegaEmbed(place, specification, {
        mode: "vega-lite",
        renderer: "canvas",
        config: island.themes[dark ? "dark" : "light"],
        actions: { export: true, source: false, compiled: false, editor: false },
        tooltip: { theme: dark ? "dark" : "light" },
        logLevel: 1, // errors: an empty chart, all of whose estimators are hidden, is none
      });
      drawn.push({ section: chart.section, result });
    } catch (error) {
      place.textContent = `This chart could not be drawn: ${error.message}`;
      console.error(error);
    }
  }

  /** Draw all charts anew, those in view first; a later call takes over from an earlier one. */
  function drawAll() {
    const mine = ++drawing;
    content.setAttribute("aria-busy", "true");
    const inView = (place) => place.getBoundingClientRect().top < innerHeight && place.getBoundingClientRect().bottom > 0;
    pending = pending.then(async () => {
      for (const { result } of drawn.splice(0)) result.finalize();
      const places = [...content.querySelectorAll("[data-chart]")];
      for (const place of [...places.filter(inView), ...places.filter((each) => !inView(each))]) {
        if (mine !== drawing) return;
        await draw(place);
        await new Promise((resolve) => setTimeout(resolve)); // the page answers between two charts
      }
      if (mine === drawing) content.setAttribute("aria-busy", "false");
    });
    return pending;
  }

  function signal(name, value, section = null) {
    for (const chart of drawn) {
      if (section === null || chart.section === section) chart.result.view.signal(name, value(chart.section)).runAsync();
    }
  }

  // What the reader has chosen.

  function showTheme() {
    if (state.theme) root.dataset.theme = state.theme;
    document.getElementById("dark").setAttribute("aria-pressed", String(isDark()));
  }

  function showEstimators(section) {
    const hidden = hiddenIn(Number(section.dataset.section));
    for (const button of section.querySelectorAll("[data-action=estimator]")) {
      button.setAttribute("aria-pressed", String(!hidden.has(button.dataset.label)));
    }
  }

  function compare(a, b, direction) {
    const missing = (a === undefined) - (b === undefined);
    if (missing || a === undefined) return missing; // last in either direction
    const numbers = a !== "" && b !== "" && !isNaN(a) && !isNaN(b);
    return direction * (numbers ? a - b : a.localeCompare(b, "en", { numeric: true }));
  }

  function sort(table, column, direction) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((cell, i) => cell.setAttribute("aria-sort", i === column ? direction : "none"));
    const value = (row) => {
      const cell = row.cells[column];
      return cell.dataset.value ?? (cell.classList.contains("text") ? cell.textContent.trim() : undefined);
    };
    const sign = direction === "ascending" ? 1 : -1;
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => compare(value(a), value(b), sign)));
  }

  function sortAgain(section) {
    const chosen = state.sort.get(section.dataset.problem);
    const table = section.querySelector("[data-table]");
    const column = chosen && table ? [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === chosen.heading) : -1;
    if (column >= 0) sort(table, column, chosen.direction);
  }

  /** Show new content as the reader had the content before. */
  function restore() {
    const button = document.getElementById("single");
    state.single ??= button.getAttribute("aria-pressed") === "true";
    button.setAttribute("aria-pressed", String(state.single));
    showTheme();
    for (const section of content.querySelectorAll("[data-section]")) {
      showEstimators(section);
      sortAgain(section);
      for (const details of section.querySelectorAll(":scope > details")) details.open = state.open.has(details.id);
    }
  }

  const actions = {
    dark() {
      state.theme = isDark() ? "light" : "dark";
      try {
        localStorage.setItem("latent-theme", state.theme);
      } catch {
        // then the choice lasts as long as the page
      }
      showTheme();
      drawAll();
    },
    single(button) {
      state.single = !state.single;
      button.setAttribute("aria-pressed", String(state.single));
      signal("single", () => state.single);
    },
    estimator(button) {
      const hidden = hiddenIn(sectionOf(button).dataset.section);
      if (!hidden.delete(button.dataset.label)) hidden.add(button.dataset.label);
      hide(sectionOf(button), hidden);
    },
    all(button) {
      hide(sectionOf(button), new Set());
    },
    none(button) {
      hide(sectionOf(button), new Set(island.sections[sectionOf(button).dataset.section].estimators));
    },
    sort(button) {
      const heading = button.closest("th");
      const table = heading.closest("table");
      const first = heading.classList.contains("text") ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      const direction = heading.getAttribute("aria-sort") === first ? other : first;
      state.sort.set(sectionOf(button).dataset.problem, { heading: heading.textContent, direction });
      sort(table, heading.cellIndex, direction);
    },
  };

  function hide(section, hidden) {
    const number = Number(section.dataset.section);
    state.hidden.set(island.sections[number].problem, hidden);
    showEstimators(section);
    signal("hidden", () => [...hidden], number);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-action]");
    if (button) actions[button.dataset.action](button);
  });
  document.addEventListener("toggle", ({ target }) => target.id && state.open[target.open ? "add" : "delete"](target.id), true);
  preferred.addEventListener("change", () => {
    showTheme();
    if (!state.theme) drawAll();
  });

  // A live page: ask for the version, and for new content where it is another one.

  async function ask(what) {
    const answer = await fetch(what, { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    return answer.json();
  }

  function watch(seconds) {
    let { version } = document.body.dataset;
    const look = async () => {
      if (document.hidden) return setTimeout(look, 1000 * seconds); // nobody looks
      try {
        if ((await ask("version")).version !== version) {
          const news = await ask("content");
          version = news.version;
          replace(news);
        }
        status.textContent = "";
      } catch {
        status.textContent = "The server does not answer; this is what it said last.";
      }
      setTimeout(look, 1000 * seconds);
    };
    look();
  }

  function replace({ html, data, title }) {
    const focused = document.activeElement?.id;
    const place = { left: scrollX, top: scrollY, behavior: "instant" };
    const height = content.offsetHeight;
    content.style.minHeight = `${height}px`; // or the page would jump to its top
    content.innerHTML = html;
    island = data;
    document.title = title;
    restore();
    scrollTo(place);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    drawAll().then(() => (content.style.minHeight = ""));
  }

  restore();
  drawAll();
  if (document.body.dataset.every) watch(Number(document.body.dataset.every));
})();
