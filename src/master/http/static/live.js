// Keeps an open page current: durations tick, changed parts are read again, logs grow.
// Every page is whole without it.
"use strict";

// Lines of a followed log that stay on the page, at most; earlier ones are a click away.
const LINES_MAX = 5000;
// Pauses between two readings of a page that changes all the time.
const READ_AGAIN_MS = 300;
// A browser calls again by itself when a stream breaks, and gives up when something else answers: a proxy whose master is
// away. Then this calls again.
const CALL_AGAIN_MS = 5000;

function words(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  const two = (n) => String(n).padStart(2, "0");
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + two(s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + two(Math.floor(s / 60) % 60) + " min";
  return Math.floor(s / 86400) + " d " + (Math.floor(s / 3600) % 24) + " h";
}

// The master's clock counts, not this machine's.
const skew = Number(document.body.dataset.now) - Date.now();
function tick() {
  const now = Date.now() + skew;
  for (const e of document.querySelectorAll("[data-since]")) e.textContent = words(now - Number(e.dataset.since));
  for (const e of document.querySelectorAll("[data-until]")) e.textContent = words(Number(e.dataset.until) - now);
}
setInterval(tick, 1000);
tick();

// Reads the page again and takes over what has changed. The log stays, unless the page now shows another.
let reading = false, again = false;
async function refresh() {
  if (reading) { again = true; return; }
  reading = true;
  try {
    const answer = await fetch(location.pathname + location.search, { headers: { accept: "text/html" } });
    if (answer.ok) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const old of document.querySelectorAll("[data-live]")) {
        const part = fresh.getElementById(old.id);
        if (part && !part.isEqualNode(old) && !old.contains(document.activeElement?.closest("input") ?? null)) old.replaceWith(part);
      }
      const panel = document.getElementById("panel"), next = fresh.getElementById("panel");
      if (panel && next && panel.dataset.key !== next.dataset.key) { panel.replaceWith(next); follow(); }
      tick();
    }
  } catch { /* The master is away; the event stream calls again when it is back. */ }
  setTimeout(() => { reading = false; if (again) { again = false; refresh(); } }, READ_AGAIN_MS);
}

const watched = document.body.dataset.events;
let first = true;
function watch() {
  const events = new EventSource(watched);
  const changed = () => { if (first) first = false; else refresh(); };
  events.addEventListener("build", changed);
  events.addEventListener("fleet", changed);
  events.addEventListener("end", () => { events.close(); refresh(); });
  events.addEventListener("error", () => { if (events.readyState === EventSource.CLOSED) setTimeout(watch, CALL_AGAIN_MS); });
}
if (watched) watch();

// Follows a log: each event holds lines as [number, html], the last one perhaps unfinished.
// The HTML is the master's own: escaped text in <b class="…">.
let stream = null;
function follow() {
  if (stream) stream.close();
  stream = null;
  const panel = document.getElementById("panel");
  if (!panel || !panel.dataset.stream) return;
  const log = panel.querySelector(".log"), tail = panel.querySelector("input[name=tail]");
  const prefix = log.dataset.prefix;
  stream = new EventSource(panel.dataset.stream);
  const mine = stream;
  mine.addEventListener("error", () => {
    if (mine.readyState === EventSource.CLOSED) setTimeout(() => { if (stream === mine) follow(); }, CALL_AGAIN_MS);
  });
  mine.addEventListener("lines", (event) => {
    // From here on, should it have to be asked for anew.
    panel.dataset.stream = panel.dataset.stream.replace(/([?&]at=)[^&]*/, "$1" + encodeURIComponent(event.lastEventId));
    panel.querySelector(".quiet")?.remove();
    for (const [number, html] of JSON.parse(event.data)) {
      const id = prefix + number;
      let row = document.getElementById(id)?.parentNode;
      if (!row) {
        row = document.createElement("div");
        const link = document.createElement("a");
        link.id = id; link.href = "#" + id; link.textContent = number;
        row.append(link, document.createElement("span"));
        log.append(row);
      }
      row.lastChild.innerHTML = html;
    }
    while (log.childElementCount > LINES_MAX) log.firstElementChild.remove();
    if (tail?.checked) window.scrollTo({ top: log.getBoundingClientRect().bottom + scrollY - innerHeight + 40 });
  });
  mine.addEventListener("end", () => { mine.close(); panel.querySelector(".following")?.remove(); });
}
follow();

// Earlier and later lines come into the log that is there.
document.addEventListener("click", async (event) => {
  const link = event.target.closest?.(".more a");
  if (!link) return;
  event.preventDefault();
  const more = link.closest(".more"), log = document.querySelector("#panel .log");
  const fresh = new DOMParser().parseFromString(await (await fetch(link.href)).text(), "text/html");
  const rows = [...fresh.querySelectorAll("#panel .log > div")].filter((row) => !document.getElementById(row.firstElementChild.id));
  if (more.dataset.where === "earlier") {
    const before = document.documentElement.scrollHeight;
    log.prepend(...rows);
    scrollBy(0, document.documentElement.scrollHeight - before);
  } else log.append(...rows);
  const next = fresh.querySelector(".more[data-where=" + more.dataset.where + "]");
  if (next) more.replaceWith(next); else more.remove();
});

// A line's address, #job:step:LINE, that this page does not show: ask for the page that does.
function seek() {
  const place = /^#(.+):(\d+):(\d+)$/.exec(decodeURIComponent(location.hash));
  if (!place || document.getElementById(location.hash.slice(1)) || document.getElementById(decodeURIComponent(location.hash.slice(1)))) return;
  if (!document.getElementById("panel")) return;
  const query = new URLSearchParams({ job: place[1], step: place[2], from: String(Math.max(1, Number(place[3]) - 20)) });
  if (location.search !== "?" + query) location.replace("?" + query + location.hash);
}
addEventListener("hashchange", seek);
seek();

// The demo's link carries the token behind a #, which no server and no log ever sees.
const token = /^#token=([0-9A-Za-z_.-]+)$/.exec(location.hash), login = document.getElementById("login");
if (token && login) {
  history.replaceState(null, "", location.pathname + location.search);
  login.elements.token.value = token[1];
  login.submit();
} else if (token) {
  location.replace("/login?next=" + encodeURIComponent(location.pathname + location.search) + location.hash);
}
