// What pages gain from JavaScript. Everything works without it too: charts are drawn, links lead, forms are sent.
"use strict";

(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });

  // What stands under the pointer, in words.
  function tip(good, bad) {
    const box = document.createElement("div");
    box.className = "tip";
    box.hidden = true;
    const say = (chart) => {
      const { idx, left } = chart.cursor;
      box.hidden = idx === null || idx === undefined || left < 0;
      if (box.hidden) return;
      box.textContent = `${clock.format(chart.data[0][idx] * 1000)} UTC: ${good[idx]} delivered, ${bad[idx]} failed`;
      box.style.left = `${Math.max(0, Math.min(chart.over.clientWidth - box.offsetWidth, left + 12))}px`;
    };
    return { hooks: { init: (chart) => chart.over.append(box), setCursor: say } };
  }

  // Bars that stand on each other: their sum is drawn first, and the lower part over it.
  function options(plot, plugin, step) {
    const bars = uPlot.paths.bars({ size: [0.78, 40] });
    const axis = { stroke: colour("--quiet"), font: "12px Inter, sans-serif", ticks: { show: false } };
    const numbers = (_, marks) => marks.map((mark) => (Number.isInteger(mark) ? mark.toLocaleString("en-GB") : ""));
    const part = (name) => ({ fill: colour(name), width: 0, paths: bars, points: { show: false } });
    return {
      width: plot.clientWidth,
      height: plot.clientHeight,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: { x: { range: (_, first, last) => [first - step / 2, last + step / 2] }, y: { range: (_, __, most) => [0, Math.max(1, most * 1.08)] } },
      axes: [
        { ...axis, grid: { show: false }, size: 28, values: (_, marks) => marks.map((mark) => clock.format(mark * 1000)) },
        { ...axis, grid: { stroke: colour("--line"), width: 1 }, size: 48, values: numbers },
      ],
      series: [{}, part("--bar-bad"), part("--bar-good")],
      plugins: [plugin],
    };
  }

  function draw(plot) {
    const [at, good, bad] = plot.series;
    const stacked = [at, good.map((count, index) => count + bad[index]), good];
    const settled = options(plot, tip(good, bad), at[1] - at[0]);
    plot.replaceChildren();
    const chart = new uPlot(settled, stacked, plot);
    new ResizeObserver(() => chart.setSize({ width: plot.clientWidth, height: plot.clientHeight })).observe(plot);
  }

  // The drawing that came with the page makes room for one that answers the pointer.
  function take(plot) {
    plot.series = JSON.parse(plot.querySelector("script").textContent);
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", plot.querySelector("svg").getAttribute("aria-label"));
    draw(plot);
  }

  function offerCopy(text) {
    const around = document.createElement("div");
    around.className = "copied";
    text.replaceWith(around);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "plain";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    });
    around.append(text, button);
  }

  function offerAll(cell) {
    const boxes = () => cell.closest("table").querySelectorAll("tbody input[name=id]");
    const all = document.createElement("input");
    all.type = "checkbox";
    all.setAttribute("aria-label", "Select all on this page");
    all.addEventListener("change", () => boxes().forEach((box) => (box.checked = all.checked)));
    cell.replaceChildren(all);
    cell.setAttribute("hx-morph-skip", "");
  }

  // A page that is open says when the relay does not answer any more, and since when. Hidden ones do not listen: a browser
  // has few connections for one address.
  function watch(banner) {
    const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium", timeZone: "UTC" });
    let source = null;
    let heard = Date.now();
    let lost = false;
    const lose = (stopped) => {
      if (lost) return;
      lost = true;
      const at = `${clock.format(heard)} UTC`;
      const what = stopped === true ? `The relay was stopped at ${at}.` : `The relay has not answered since ${at}.`;
      banner.textContent = `${what} This page shows how things stood then, and goes on by itself when the relay is back.`;
      banner.hidden = false;
      document.body.classList.add("stale");
    };
    const hear = () => {
      heard = Date.now();
      if (!lost) return;
      lost = false;
      banner.hidden = true;
      document.body.classList.remove("stale");
    };
    const listen = () => {
      source?.close();
      source = document.hidden ? null : new EventSource("/alive");
      source?.addEventListener("beat", hear);
      source?.addEventListener("stopped", () => {
        heard = Date.now();
        lose(true);
      });
      source?.addEventListener("signed-out", () => location.reload()); // which leads to the sign-in page, and back
      source?.addEventListener("error", lose);
    };
    const look = () => {
      if (document.hidden) return;
      if (Date.now() - heard > 4500) lose();
      if (lost) listen();
    };
    document.addEventListener("visibilitychange", () => {
      heard = lost ? heard : Date.now();
      listen();
    });
    document.addEventListener("htmx:before:request", (asked) => lost && asked.preventDefault());
    setInterval(look, 1500);
    listen();
  }

  // Whoever reads stays where they are: htmx focuses anew what had the focus, and that scrolls.
  let scrolled = 0;
  document.addEventListener("htmx:before:swap", () => (scrolled = scrollY));
  document.addEventListener("htmx:after:swap", () => scrollTo({ top: scrolled, behavior: "instant" }));

  // One key each, as `?` lists them; never while somebody types.
  const places = { n: "/", l: "/deliveries", d: "/destinations", a: "/audit", s: "/settings" };
  document.addEventListener("keydown", (pressed) => {
    const list = document.getElementById("shortcuts");
    if (!list || pressed.ctrlKey || pressed.metaKey || pressed.altKey || pressed.target.closest("input, select, textarea")) return;
    if (pressed.key === "?" && !list.open) list.showModal();
    else if (pressed.key === "/") document.getElementById("find").focus();
    else if (Object.hasOwn(places, pressed.key)) location.assign(places[pressed.key]);
    else return;
    pressed.preventDefault();
  });

  function enhance() {
    document.querySelectorAll(".plot:has(> svg)").forEach(take);
    document.querySelectorAll("pre.copy").forEach((text) => text.closest(".copied") || offerCopy(text));
    document.querySelectorAll("th.pick:not(:has(input))").forEach(offerAll);
  }

  document.fonts.load("12px Inter").then(enhance, enhance);
  const banner = document.getElementById("lost");
  if (banner) watch(banner);
  document.addEventListener("htmx:after:swap", enhance);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    document.querySelectorAll(".plot:not(:has(> svg))").forEach(draw);
  });
})();
