// What the script adds to a page: copy buttons, the reader's time zone, live figures, and
// confirmations before something is lost. Every page works without it. It only calls its own node.

const all = (selector, within = document) => within.querySelectorAll(selector);
const one = (selector, within = document) => within.querySelector(selector);
const announce = (text) => { one("#toast").textContent = text; };

// Gives the answer to a form the URL of its page, so that a reload does not submit the form again.
const { canonical } = document.body.dataset;
if (canonical) history.replaceState(null, "", canonical);

/* Times */

const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const short = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const UNITS = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60]];

function ago(at) {
  const seconds = (at - Date.now()) / 1000;
  for (const [unit, length] of UNITS) {
    if (Math.abs(seconds) >= length) return relative.format(Math.trunc(seconds / length), unit);
  }
  if (Math.abs(seconds) < 10) return "now";
  return relative.format(Math.trunc(seconds), "second");
}

function showTimes(within = document) {
  for (const time of all("time[datetime]", within)) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.textContent = "ago" in time.dataset ? ago(at) : short.format(at);
    time.title = `${exact.format(at)} (${zone})\n${time.dateTime}`;
  }
}
showTimes();
for (const title of all("[data-at]")) {
  title.textContent = title.textContent.replace(title.dataset.at, short.format(new Date(title.dataset.at)));
}
setInterval(showTimes, 20000);
for (const place of all("[data-zone]")) place.textContent = zone;

// A date is entered in the reader's zone and sent in UTC.
const two = (number) => String(number).padStart(2, "0");
for (const input of all("input[data-utc]")) {
  const utc = one(`input[name="${input.dataset.utc}"]`, input.form);
  const known = new URLSearchParams(location.search).get(input.dataset.utc);
  if (input.value && known) {
    const at = new Date(known);
    input.value = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}T${two(at.getHours())}:${two(at.getMinutes())}`;
  }
  input.form.addEventListener("submit", () => {
    const at = new Date(input.value);
    utc.value = input.value && !Number.isNaN(at.getTime()) ? at.toISOString() : "";
  });
}
for (const select of all("[data-expiry]")) {
  const at = one("[data-expiry-at]");
  const show = () => { at.hidden = select.value !== "at"; };
  select.addEventListener("change", () => { show(); if (!at.hidden) one("input", at).focus(); });
  show();
}

/* Theme */

const themes = ["auto", "light", "dark"];
for (const button of all("[data-theme-button]")) {
  const root = document.documentElement;
  const name = one("[data-theme-name]", button);
  const show = () => { name.textContent = `Theme: ${root.dataset.theme ?? "auto"}`; };
  button.hidden = false;
  show();
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme ?? "auto") + 1) % themes.length];
    if (next === "auto") delete root.dataset.theme; else root.dataset.theme = next;
    try {
      if (next === "auto") localStorage.removeItem("fluxgate-theme");
      else localStorage.setItem("fluxgate-theme", next);
    } catch { /* the theme then applies to this page only */ }
    show();
  });
}

/* Forms */

for (const form of all("form[method=post]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "yes";
    for (const button of all("button", form)) button.setAttribute("aria-busy", "true");
  });
}
for (const input of all("[data-confirm]")) {
  const button = one("button", input.form);
  const plain = (text) => text.trim().split(/\s+/).join(" ");
  const update = () => { button.disabled = plain(input.value) !== plain(input.dataset.confirm); };
  input.addEventListener("input", update);
  update();
}
// Empty fields would only lengthen the URL, and a pasted whole key must never get into a URL.
for (const form of all("form[method=get][role=search]")) {
  form.addEventListener("submit", () => {
    for (const field of form.elements) {
      const key = /^([a-z0-9]+_[a-z0-9]+_[A-Za-z0-9]{12})[A-Za-z0-9_]+$/.exec((field.value ?? "").trim());
      if (key) field.value = key[1];
      if (field.name && !field.value) field.disabled = true;
    }
  });
}
addEventListener("pageshow", () => {
  for (const form of all("form")) {
    delete form.dataset.sent;
    for (const field of form.elements) {
      field.removeAttribute("aria-busy");
      if (form.method === "get") field.disabled = false;
    }
  }
});

/* The key, shown once */

const secret = one("[data-secret]");
if (secret) {
  const saved = one("[data-saved]", secret);
  let leaving = false;
  const removeKey = () => {
    for (const code of all("code", secret)) code.textContent = "";
    secret.remove();
  };
  for (const button of all("[data-copy]", secret)) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.textContent);
      } catch {
        getSelection().selectAllChildren(source);
        if (!document.execCommand("copy")) { announce("The browser refused to copy: press Ctrl+C."); return; }
        getSelection().removeAllRanges();
      }
      const words = button.textContent;
      button.textContent = "Copied";
      announce("Copied. Store it in a safe place.");
      saved.checked = true;
      setTimeout(() => { button.textContent = words; }, 4000);
    });
  }
  // Ask before leaving until the reader has confirmed that the key is saved.
  addEventListener("beforeunload", (event) => {
    if (!leaving && !saved.checked) event.preventDefault();
  });
  // Remove the key before the browser caches the page for its back button.
  addEventListener("pagehide", removeKey);
  addEventListener("pageshow", (event) => { if (event.persisted) location.replace(canonical); });
  one("[data-done]", secret).addEventListener("submit", (event) => {
    event.preventDefault();
    leaving = true;
    const next = event.target.action;
    removeKey();
    location.replace(next);
  });
}

/* Usage of the keys in the list */

async function fetchJson(address) {
  const answer = await fetch(address, { headers: { accept: "application/json" }, cache: "no-store" });
  if (answer.status === 401) { location.reload(); throw new Error("signed out"); }
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.json();
}

const nodes = (ids) => (ids.length === 1 ? `Node ${ids[0]}` : `Nodes ${ids.join(", ")}`);

async function showUsage(table) {
  const note = one("[data-usage-note]");
  try {
    const { keys, silent } = await fetchJson(`/console/api/usage?ids=${table.dataset.usage}`);
    for (const key of keys) {
      const cell = one(`[data-used="${key.id}"]`, table);
      const meter = document.createElement("meter");
      // Low is fine, high is a warning, and full means that callers are rejected.
      Object.assign(meter, { max: key.limit, low: key.limit * 0.75, high: key.limit - 1, optimum: 0 });
      Object.assign(meter, { value: key.spent, textContent: `${key.spent} of ${key.limit}` });
      meter.setAttribute("aria-label", `Used of ${key.name}`);
      const figure = document.createElement("span");
      figure.textContent = `${key.spent} / ${key.limit}`;
      cell.replaceChildren(meter, figure);
      if (key.last_used_at) {
        const time = document.createElement("time");
        time.dateTime = key.last_used_at;
        time.dataset.ago = "";
        one(`[data-last="${key.id}"]`, table).replaceChildren(time);
      }
    }
    showTimes(table);
    note.hidden = silent.length === 0;
    if (silent.length > 0) note.textContent = `${nodes(silent)} did not report their usage in time; these figures may be too low.`;
  } catch {
    note.hidden = false;
    note.textContent = "The usage of these keys cannot be read. Reload to try again.";
  }
}
for (const table of all("[data-usage]")) showUsage(table);

/* The cluster, live */

const SVG = "http://www.w3.org/2000/svg";
const POINTS = 90;
const WIDTH = 300;
const HEIGHT = 80;
const KINDS = ["admitted", "limited", "refused"];
const PERIOD_MS = 2000;
const COLOURS = 9;
const colour = (node) => `c${(node - 1) % COLOURS + 1}`;

function drawLines(svg, rates, kind) {
  const lines = new Map();
  for (const sample of rates) for (const [node] of sample) lines.set(node, []);
  rates.forEach((sample, at) => {
    const x = WIDTH - (rates.length - 1 - at) * (WIDTH / (POINTS - 1));
    for (const [node, rate] of sample) lines.get(node).push([x, rate[kind]]);
  });
  const top = Math.max(1, ...[...lines.values()].flat().map(([, y]) => y));
  const paths = [...lines].map(([node, points]) => {
    const path = document.createElementNS(SVG, "path");
    const place = ([x, y]) => `${x.toFixed(1)} ${(HEIGHT - 2 - (y / top) * (HEIGHT - 6)).toFixed(1)}`;
    path.setAttribute("d", `M${points.map(place).join("L")}`);
    path.setAttribute("class", colour(node));
    return path;
  });
  svg.replaceChildren(...paths);
}

async function live(panel) {
  const charts = one("[data-charts]");
  const legend = one("[data-legend]");
  const state = one("[data-live-state]");
  const label = state.textContent;
  const status = one("[data-live-status]");
  const rates = [];
  let before = null;
  let announced = null;
  const update = async () => {
    if (document.hidden) { before = null; return; }
    const { html, served } = await fetchJson(panel.dataset.live);
    const now = performance.now();
    // While the reader has selected text in the panel, it is not replaced.
    const marked = getSelection();
    if (marked.isCollapsed || !panel.contains(marked.anchorNode)) {
      panel.innerHTML = html;
      showTimes(panel);
    }
    // Announced to screen readers when it changes, not every two seconds.
    const messages = [...all(".banner", panel)].map((banner) => banner.textContent).join(" ");
    if (messages !== announced) { if (announced !== null) status.textContent = messages; announced = messages; }
    const known = new Map(served.filter((node) => node.served).map((node) => [node.node, node.served]));
    if (before) {
      const seconds = (now - before.at) / 1000;
      const sample = new Map();
      for (const [node, figures] of known) {
        const last = before.known.get(node);
        // A restarted node counts from 0 again.
        if (!last || KINDS.some((kind) => figures[kind] < last[kind])) continue;
        sample.set(node, Object.fromEntries(KINDS.map((kind) => [kind, (figures[kind] - last[kind]) / seconds])));
      }
      rates.push(sample);
      if (rates.length > POINTS) rates.shift();
      for (const kind of KINDS) {
        const sum = [...sample.values()].reduce((total, rate) => total + rate[kind], 0);
        one(`[data-rate="${kind}"]`).textContent = sum < 10 ? sum.toFixed(1) : Math.round(sum).toLocaleString();
        drawLines(one(`[data-chart="${kind}"]`), rates, kind);
      }
    }
    before = { at: now, known };
    const names = [...known.keys()].map((node) => {
      const name = document.createElement("span");
      const dot = document.createElement("span");
      dot.className = `dot ${colour(node)}`;
      name.append(dot, `Node ${node}`);
      return name;
    });
    legend.replaceChildren(...names, "three minutes, a point every two seconds");
    charts.hidden = legend.hidden = false;
    state.textContent = `${label} · live`;
  };
  for (;;) {
    try {
      await update();
    } catch {
      state.textContent = "This node does not answer; the figures are the last known ones. Retrying.";
      before = null;
    }
    await new Promise((wake) => { setTimeout(wake, PERIOD_MS); });
  }
}
for (const panel of all("[data-live]")) live(panel);
