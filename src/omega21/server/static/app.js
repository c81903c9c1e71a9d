// The page: the login, the selected run, and one long poll that waits for changes.

import * as api from "./api.js";
import { Charts } from "./charts.js";
import { byId } from "./elements.js";
import { HeatMaps } from "./heatmap.js";
import { pause, wake } from "./pauses.js";
import { listenToRuns, showRuns } from "./runlist.js";
import { Series } from "./series.js";
import { chooseLanguage, text } from "./texts.js";
import * as show from "./view.js";

const POINTS = 300;
const LONGEST_DELAY = 15;
const LOG_LINES = 500;
// Not a valid run name.
const NO_SUCH_RUN = new Set(["unknown_run", "invalid_request", "not_found"]);

// A free tunnel counts requests (20,000 a month): there a reply collects for longer, values that
// change slowly are requested rarely, and an idle run is polled twice a minute.
const IS_LOCAL = /^(localhost|127\.[\d.]+|\[::1\])$/.test(location.hostname);
const PACE = IS_LOCAL
  ? { gather: 0.5, slow: 10, missing: 2, hidden: 60, rest: 0 }
  : { gather: 5, slow: 60, missing: 10, hidden: 300, rest: 30 };

const charts = new Charts(byId("charts"));
const maps = new HeatMaps(byId("maps"));

let view = null;
let runs = [];
let status = null;
let lostAt = null;
let watching = new AbortController();

const emptyView = (run) => ({
  run, position: null, series: new Series(), evaluations: [], memory: [], feedback: null, events: [],
  segments: [], optimizer: null, isOwnModel: false, log: [],
});

// --- elements of the page -------------------------------------------------------------------------

function reveal(part) {
  for (const id of ["login", "board"]) byId(id).hidden = id !== (part === "login" ? "login" : "board");
  for (const id of ["run", "missing", "empty"]) byId(id).hidden = id !== part;
}

function render() {
  showRuns(runs, view?.run);
  if (status) show.showServer(status);
  if (!view?.position) return;
  show.showHead(view);
  show.showFigures(view);
  show.showEvents(view.events);
  show.showFeedback(view.feedback);
  show.showLog(view.log);
  charts.update(view);
  maps.update(view);
}

function redraw() {
  render();
  charts.redraw();
  if (lostAt !== null) show.showLink(false);
  else if (view) show.showLink(true);
}

// --- requests with retries ------------------------------------------------------------------------

async function persistently(ask, signal) {
  for (let failures = 0; ; failures += 1) {
    try {
      const reply = await ask();
      lostAt = null;
      show.showLink(true);
      show.showLost(null, {});
      return reply;
    } catch (error) {
      if (!(error instanceof api.Lost)) throw error;
      console.debug("the server does not answer:", error.message);
      lostAt ??= Date.now();
      show.showLink(false);
      await countDown(Math.min(LONGEST_DELAY, 2 ** failures), signal);
    }
  }
}

async function countDown(seconds, signal) {
  const delay = document.hidden ? PACE.hidden : seconds;
  for (let left = delay; left > 0; left -= 1) {
    show.showLost(lostAt, { seconds: left });
    if (await pause(1, signal)) break;
  }
  show.showLost(lostAt, { seconds: 0 });
}

// --- one run --------------------------------------------------------------------------------------

async function watch(run) {
  watching.abort();
  watching = new AbortController();
  const { signal } = watching;
  view = emptyView(run);
  status = null;
  try {
    await follow(view, signal);
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof api.LoginNeeded) askForToken(text("login_ended"));
    else if (NO_SUCH_RUN.has(error.code)) await waitForRun(run, signal);
    else if (error instanceof api.Refused) show.showRefused(error.message);
    else throw error;
  }
}

async function follow(shown, signal) {
  let slowAt = -Infinity;
  for (let known = ""; !signal.aborted; ) {
    const reply = await persistently(() => poll(shown, known, signal), signal);
    if (!shown.series.take(reply, reply.after)) {
      shown.series.reset(null, 1);
      known = "";
      continue;
    }
    const isNews = reply.etag !== known;
    const before = shown.position;
    shown.position = reply;
    known = reply.etag;
    if (isNews) await persistently(() => readLists(shown, before, signal), signal);
    if (performance.now() - slowAt > PACE.slow * 1000) {
      slowAt = performance.now();
      await persistently(() => readSlow(shown, signal), signal);
    }
    reveal("run");
    render();
    if (document.hidden) await pause(PACE.hidden, signal);
    else if (!isNews && PACE.rest) await pause(PACE.rest, signal);
  }
}

async function poll(shown, known, signal) {
  const after = shown.series.last;
  const wait = known && !document.hidden ? 25 - PACE.gather : 0;
  const query = { points: POINTS, vectors: 1, after, known, wait, gather: wait ? PACE.gather : 0 };
  const leave = new AbortController();
  const hide = () => document.hidden && leave.abort();
  document.addEventListener("visibilitychange", hide);
  try {
    const reply = await api.series(shown.run, query, AbortSignal.any([signal, leave.signal]));
    return { ...reply, after };
  } catch (error) {
    if (!leave.signal.aborted) throw error;
    return { ...(await api.series(shown.run, { ...query, wait: 0 }, signal)), after };
  } finally {
    document.removeEventListener("visibilitychange", hide);
  }
}

// Lists are requested again only when the counters in a reply have changed.
async function readLists(shown, before, signal) {
  const { position, run } = shown;
  const isOther = before?.id !== position.id;
  if (isOther) [shown.evaluations, shown.log] = [[], []];
  if (isOther || before.evaluations !== position.evaluations) {
    const after = shown.evaluations.at(-1)?.number ?? 0;
    const { evaluations } = await api.evaluations(run, after, signal);
    shown.evaluations.push(...evaluations);
  }
  if (isOther || before.plan_steps !== position.plan_steps) {
    shown.segments = (await api.plan(run, signal)).segments;
    const { config } = await api.state(run, signal);
    shown.optimizer = config.optimizer;
    shown.isOwnModel = config.task.kind === "code";
  }
  if (isOther || before.feedback !== position.feedback) {
    shown.feedback = await api.feedback(run, signal);
  }
  if (isOther || before.events !== position.events) {
    shown.events = (await api.events(run, signal)).events;
  }
}

async function readSlow(shown, signal) {
  runs = (await api.runs(signal)).runs;
  status = await api.status(shown.run, signal);
  shown.memory = (await api.memory(signal)).samples;
  if (shown.isOwnModel) await readLog(shown, signal);
}

// What the model printed since, at most so many lines of it.
async function readLog(shown, signal) {
  const after = shown.log.at(-1)?.number ?? -1;
  const { lines } = await api.log(shown.run, after, signal);
  shown.log = [...shown.log, ...lines].slice(-LOG_LINES);
}

async function waitForRun(run, signal) {
  byId("missing-text").textContent = text("missing_text", { run });
  document.title = "omega21";
  while (!signal.aborted) {
    runs = (await persistently(() => api.runs(signal), signal)).runs;
    if (runs.some((known) => known.run === run)) return watch(run);
    reveal("missing");
    showRuns(runs, run);
    await pause(document.hidden ? PACE.hidden : PACE.missing, signal);
  }
}

// On an empty server one card shows the command that trains a run.
async function waitForAny() {
  watching.abort();
  watching = new AbortController();
  const { signal } = watching;
  view = null;
  document.title = "omega21";
  byId("empty-command").textContent = `omega21 train ${location.origin}`;
  while (!signal.aborted) {
    reveal("empty");
    showRuns(runs, null);
    await pause(document.hidden ? PACE.hidden : PACE.missing, signal);
    runs = (await persistently(() => api.runs(signal), signal)).runs;
    if (runs.some(isBegun)) return watch(chooseRun());
  }
}

// --- login ----------------------------------------------------------------------------------------

function askForToken(why = "") {
  watching.abort();
  reveal("login");
  byId("login-error").textContent = why;
  byId("logout").hidden = true;
  byId("link").textContent = "";
  byId("token").focus();
}

async function login(event) {
  event.preventDefault();
  const field = byId("token");
  try {
    await api.login(field.value);
  } catch (error) {
    byId("login-error").textContent =
      error instanceof api.LoginNeeded ? text("login_wrong")
      : error instanceof api.Refused ? error.message
      : text("lost_title");
    field.select();
    return;
  }
  field.value = "";
  await start();
}

// A typed or truncated address may not be validly encoded.
function askedRun() {
  const hash = location.hash.slice(1);
  try {
    return decodeURIComponent(hash);
  } catch {
    return hash;
  }
}

// The default run exists before its first use.
const isBegun = (run) => run.target > 0 || run.step > 0 || run.plan_steps > 0;

function chooseRun() {
  const asked = askedRun();
  if (asked) return asked;
  const busy = runs.find((run) => run.state === "training");
  const made = runs.filter(isBegun).toSorted((a, b) => b.step - a.step)[0];
  return (busy ?? made)?.run ?? null;
}

function showChosen() {
  const run = chooseRun();
  return run === null ? waitForAny() : watch(run);
}

async function start() {
  const { signal } = new AbortController();
  const session = await persistently(() => api.session(), signal);
  byId("logout").hidden = !(session.login_needed && session.logged_in);
  if (!session.logged_in) return askForToken();
  runs = (await persistently(() => api.runs(signal), signal)).runs;
  return showChosen();
}

// --- language and navigation ----------------------------------------------------------------------

// The address contains the run's name, so this link must not change it.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});
byId("login-form").addEventListener("submit", login);
byId("logout").addEventListener("click", async () => {
  await api.logout();
  askForToken();
});
// The address contains the run's name, so the skip link must not change it.
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});
byId("retry").addEventListener("click", () => wake() || start());
window.addEventListener("online", wake);
window.addEventListener("hashchange", showChosen);
document.addEventListener("visibilitychange", wake);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => {
    chooseLanguage(button.dataset.language);
    redraw();
  });
}

byId("needs-script").remove();
listenToRuns();
chooseLanguage();
await start();
