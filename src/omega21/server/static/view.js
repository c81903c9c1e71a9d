// Everything on the page except charts and runs: values, events, feedback, the server.

import { byId, facts, LazyTable, make, table } from "./elements.js";
import { setState, setText } from "./runlist.js";
import { bytes, clock, count, duration, number, score, share, text } from "./texts.js";

const WEIGHTS = {
  restarted: "warn", micro_batch_size: "warn", non_finite: "warn", warning: "warn",
  replay_differs: "bad", executor_died: "bad", diverged: "bad", failed: "bad",
};
const WITH_DETAIL = new Set(["restarted", "environment", "diverged", "failed", "warning"]);
const STRIP = 80;
const MOST_METRICS = 3;

export function showHead(view) {
  const { position, series } = view;
  setText(byId("run-name"), position.run);
  setState(byId("run-state"), position);
  byId("progress").value = position.target ? position.step / position.target : 0;
  setText(byId("position"), progress(position, series.tempo?.pace));
  setText(byId("plan"), planned(view));
  const isStopped = position.state === "diverged" || position.state === "failed";
  byId("stopped").hidden = !position.reason;
  setText(byId("reason"), position.reason ?? "");
  setText(byId("advice"), isStopped ? text(`advice_${position.state}`) : "");
  const done = position.target ? `${share(position.step / position.target)} · ` : "";
  document.title = `${done}${position.run} · omega21`;
}

function progress(position, pace) {
  if (!position.target) return "";
  const parts = [
    text("position", { step: count(position.step), target: count(position.target) }),
    text("position_safe", { durable: count(position.durable_step) }),
  ];
  const left = position.target - position.step;
  if (position.state === "training" && left > 0 && pace) {
    parts.push(text("position_left", { time: duration(left * pace) }));
  }
  if (position.waiting_for > 0) {
    parts.push(text("position_waiting", { count: count(position.waiting_for) }));
  }
  return parts.join(" · ");
}

// The run's position in its plan: epoch, batch size, learning rate, elapsed time.
function planned({ position, series, segments, optimizer }) {
  const parts = [];
  let first = 1;
  for (const segment of segments ?? []) {
    const perEpoch = Math.ceil(segment.samples / segment.batch_size);
    const last = first + perEpoch * segment.epochs - 1;
    if (Math.max(1, position.step) <= last) {
      const epoch = Math.floor((Math.max(1, position.step) - first) / perEpoch) + 1;
      parts.push(text("plan_epoch", { epoch: count(epoch), epochs: count(segment.epochs) }));
      parts.push(text("plan_batch", { count: count(segment.batch_size) }));
      break;
    }
    first = last + 1;
  }
  if (optimizer) {
    const warm = Math.min(1, Math.max(1, position.step) / Math.max(1, optimizer.warmup_steps));
    parts.push(text("plan_rate", { rate: number(optimizer.learning_rate * warm) }));
  }
  if (series.elapsed !== null) parts.push(text("plan_elapsed", { time: duration(series.elapsed) }));
  return parts.join(" · ");
}

export function showFigures({ position, series, evaluations, memory, feedback }) {
  const newest = (values) => values.findLast((value) => value !== null) ?? null;
  const last = evaluations.at(-1);
  const metrics = series.headline.slice(0, MOST_METRICS).map((name) => [
    series.label(name), metric(newest(series.metrics[name] ?? [])),
  ]);
  const used = memory.at(-1);
  const megabytes = used && (used.device_mb || used.process_mb);
  const rate = feedback?.statistics;
  facts(byId("figures"), [
    [text("loss_smooth_figure"), number(newest(series.smoothed))],
    ...metrics,
    evaluated(last, position, series),
    [text("samples_per_second"), number(series.tempo?.rate, { maximumSignificantDigits: 3 })],
    [text("memory"), megabytes ? bytes(megabytes * 1e6) : "–"],
    [text("feedback"), rate?.recibido ? share(rate.tasa_exito) : "–"],
  ]);
}

const metric = (value) => (value >= 0 && value <= 1 ? score(value) : number(value));

// What an evaluation is known by, with its step if the run has trained further since: AUROC, else
// the task's first metric, else the loss.
function evaluated(evaluation, { step }, series) {
  if (!evaluation) return [text("evaluation"), "–"];
  const { metrics } = evaluation;
  const has = (name) => Object.hasOwn(metrics, name);
  const first = has("auroc") ? "auroc" : series.headline.find(has);
  const name = first === "auroc" ? text("auroc") : first ? series.label(first) : text("loss");
  const words = first === "auroc" ? name : text("held_out_figure", { name });
  return [
    evaluation.step === step ? words : text("figure_at", { name: words, step: count(evaluation.step) }),
    metric(first ? metrics[first] : evaluation.loss),
  ];
}

export function showEvents(events) {
  byId("events").replaceChildren(...events.map(eventItem));
  byId("events-none").hidden = events.length > 0;
}

function eventItem(event) {
  const values = {
    step: event.step === null ? "–" : count(event.step),
    last: count((event.step ?? 0) + event.count - 1),
    detail: event.detail,
    count: count(event.count),
  };
  const many = event.count > 1 && ["non_finite", "warning"].includes(event.kind) ? "_many" : "";
  const lines = [make("p", { text: text(`event_${event.kind}${many}`, values) })];
  if (event.detail && WITH_DETAIL.has(event.kind)) {
    const detail = event.detail.replace(/\b(\d+) threads\b/, (_, n) => text("threads", { count: n }));
    lines.push(make("p", { class: "detail", text: detail }));
  }
  const at = event.at === null ? null : new Date(event.at * 1000).toISOString();
  const when = event.at === null ? text("event_now") : clock(event.at);
  lines.push(make("time", { datetime: at, text: when }));
  return make("li", {
    "data-weight": WEIGHTS[event.kind],
    "data-kind": event.kind,
    children: [make("div", { children: lines })],
  });
}

// The newest line stays in sight where it was.
export function showLog(lines) {
  const place = byId("log");
  byId("log-card").hidden = !lines.length;
  const shown = lines.map((line) => `${clock(line.at)}  ${line.text}`).join("\n");
  if (place.textContent === shown) return;
  const isAtEnd = place.scrollTop + place.clientHeight >= place.scrollHeight - 4;
  place.textContent = shown;
  if (isAtEnd) place.scrollTop = place.scrollHeight;
}

let feedbackTable;

export function showFeedback(feedback) {
  const place = byId("feedback");
  if (!feedback?.statistics.recibido) {
    place.replaceChildren(make("p", { class: "dim", text: text("feedback_none") }));
    feedbackTable = undefined;
    return;
  }
  const { recibido: all, exitoso: good, tasa_exito: rate } = feedback.statistics;
  const strip = feedback.feedback.slice(-STRIP).map((row) => make("i", { class: row.validated ? "yes" : "no" }));
  const isOpen = feedbackTable?.element.open ?? false;
  feedbackTable = new LazyTable(text("as_table"), () => [
    [text("time"), text("validated"), text("adjustments")],
    feedback.feedback.toReversed().map((row) => [
      clock(row.at), text(row.validated ? "yes" : "no"), range(row.adjustments),
    ]),
  ]);
  feedbackTable.element.open = isOpen;
  place.replaceChildren(
    make("p", {
      children: [
        make("span", { class: "rate", text: share(rate) }), " ",
        make("span", { class: "dim", text: text("feedback_rate", { good: count(good), all: count(all) }) }),
      ],
    }),
    make("div", { class: "strip", "aria-hidden": "true", children: strip }),
    feedbackTable.element,
  );
}

function range(values) {
  const form = { maximumFractionDigits: 2, signDisplay: "exceptZero" };
  return `${number(Math.min(...values), form)} … ${number(Math.max(...values), form)}`;
}

export function showServer(status) {
  const figures = status.estadisticas;
  facts(byId("server"), [
    [text("model"), status.modelo],
    [text("device"), figures.dispositivo],
    [text("torch"), status.torch_version],
    [text("uptime"), duration(figures.tiempo_transcurrido_seg)],
    [text("restarts"), count(status.restarts)],
    [text("samples"), count(figures.total_muestras)],
  ]);
  byId("traffic").replaceChildren(...(status.traffic ? trafficMeters(status.traffic) : []));
}

// This month's traffic, with a bar where the tunnel's free plan has a limit.
function trafficMeters(traffic) {
  const sent = traffic.bytes_in + traffic.bytes_out;
  return [
    trafficMeter(text("traffic_bytes"), sent, { left: traffic.bytes_left, show: bytes }),
    trafficMeter(text("traffic_requests"), traffic.requests, { left: traffic.requests_left, show: count }),
  ];
}

function trafficMeter(name, used, { left, show }) {
  const isLimited = left !== null && left !== undefined;
  const limit = isLimited ? used + left : 0;
  const words = isLimited ? text("traffic_of", { used: show(used), limit: show(limit) }) : show(used);
  const line = make("p", { children: [make("span", { class: "dim", text: name }), make("span", { text: words })] });
  const bar = make("progress", { value: used, max: limit || 1, "aria-label": name });
  return make("div", { class: "meter", children: isLimited ? [line, bar] : [line] });
}

export function showLink(isUp) {
  const link = byId("link");
  const words = text(isUp ? "link_up" : "link_lost");
  link.dataset.link = isUp ? "up" : "lost";
  if (link.textContent !== words) link.textContent = words;
}

export function showLost(lost, { seconds }) {
  byId("lost").hidden = !lost;
  if (!lost) return;
  byId("lost-title").textContent = text("lost_title");
  const key = seconds > 0 ? "lost_text" : "lost_trying";
  byId("lost-text").textContent = text(key, { time: clock(lost / 1000), seconds: count(seconds) });
}

export function showRefused(reason) {
  byId("lost").hidden = false;
  byId("lost-title").textContent = text("refused_title");
  byId("lost-text").textContent = reason;
}
