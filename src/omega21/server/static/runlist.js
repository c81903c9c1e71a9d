// The list of runs. Its nodes are updated in place: a list that is rebuilt at each reply would lose
// the focus and the click in progress.

import { byId, make } from "./elements.js";
import { count, number, score, text } from "./texts.js";

const FEW = 8;
const TAIL = 12;
const items = new Map();
let known = { runs: [], chosen: null };

const ORDERS = {
  newest: () => 0, // the server's order: active runs first, then by name
  name: (a, b) => a.run.localeCompare(b.run),
  steps: (a, b) => b.step - a.step,
  auroc: (a, b) => (b.metrics.auroc ?? -1) - (a.metrics.auroc ?? -1),
  loss: (a, b) => (a.loss ?? Infinity) - (b.loss ?? Infinity),
};
const isBusy = (run) => run.state === "training" || run.state === "waiting";

export function showRuns(runs, chosen) {
  known = { runs, chosen };
  byId("runs-tools").hidden = runs.length <= FEW;
  const words = byId("runs-filter").value.trim().toLowerCase();
  const order = ORDERS[byId("runs-order").value] ?? ORDERS.newest;
  const shown = runs
    .filter((run) => run.run.toLowerCase().includes(words) || run.run === chosen)
    .toSorted((a, b) => isBusy(b) - isBusy(a) || order(a, b));
  const list = byId("runs");
  const kept = new Set(shown.map((run) => run.run));
  for (const [name, item] of items) {
    if (kept.has(name)) continue;
    item.element.remove();
    items.delete(name);
  }
  shown.forEach((run, place) => {
    const item = items.get(run.run) ?? new Item(run.run);
    items.set(run.run, item);
    item.show(run, run.run === chosen);
    // Moving a node removes its focus, so one in the right place is not moved.
    if (list.children[place] !== item.element) list.insertBefore(item.element, list.children[place] ?? null);
  });
  setText(byId("runs-none"), words && !shown.length ? text("runs_none") : "");
}

export function listenToRuns() {
  for (const id of ["runs-filter", "runs-order"]) {
    byId(id).addEventListener("input", () => showRuns(known.runs, known.chosen));
  }
}

class Item {
  constructor(name) {
    // Names often differ at their end, so the middle is what is truncated.
    this.name = make("span", {
      class: "name",
      title: name,
      children: [
        make("span", { class: "start", text: name.slice(0, -TAIL) }),
        make("span", { class: "end", text: name.slice(-TAIL) }),
      ],
    });
    this.steps = make("span", { class: "steps" });
    this.state = make("span", { class: "state" });
    this.figures = make("span", { class: "steps" });
    this.link = make("a", {
      href: `#${encodeURIComponent(name)}`,
      children: [this.name, this.steps, this.state, this.figures],
    });
    this.element = make("li", { children: [this.link] });
  }

  show(run, isChosen) {
    if (isChosen) this.link.setAttribute("aria-current", "page");
    else this.link.removeAttribute("aria-current");
    setText(this.steps, run.target ? text("steps", { step: count(run.step), target: count(run.target) }) : "");
    setState(this.state, run);
    setText(this.figures, isBusy(run) ? "" : figures(run));
  }
}

// The first metric of the newest evaluation, else the loss.
function figures({ metrics, loss }) {
  const [name, value] = Object.entries(metrics).find(([, known]) => known !== null) ?? [];
  if (name) return `${name === "auroc" ? text("auroc") : name} ${metric(value)}`;
  return loss !== null && loss !== undefined ? `${text("loss")} ${number(loss)}` : "";
}

const metric = (value) => (value >= 0 && value <= 1 ? score(value) : number(value));

export function setState(element, run) {
  element.dataset.state = run.state;
  setText(element, inWords(run));
}

// A run without a target is not finished.
const inWords = ({ state: name, target }) =>
  name === "idle" && target === 0 ? text("nothing_yet") : text(`state_${name}`);

// Set only when it changes: a screen reader would read it again.
export function setText(element, words) {
  if (element.textContent !== words) element.textContent = words;
}
