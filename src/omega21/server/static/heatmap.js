// Vectors over time: a column for each point of the series, a row for each value.

import { LazyTable, make } from "./elements.js";
import { count, number, text } from "./texts.js";

const SMALLEST_SCALE = 0.02;
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const VALUE = { maximumFractionDigits: 2, signDisplay: "exceptZero" };

function rgb(name) {
  const written = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const long = written.length === 4 ? written.replace(/[^#]/g, "$&$&") : written;
  return [1, 3, 5].map((at) => parseInt(long.slice(at, at + 2), 16));
}

// Columns of one length: a step that lacks the vector, or has a shorter one, is zero there.
function evenly(columns) {
  const rows = Math.max(0, ...columns.map((column) => column?.length ?? 0));
  return columns.map((column) => {
    if (column?.length === rows) return column;
    const filled = new Float32Array(rows);
    filled.set(column ?? []);
    return filled;
  });
}

class HeatMap {
  constructor(name) {
    this.name = name;
    this.title = make("h2", { id: `map-${name}` });
    this.scale = make("p", { class: "scale" });
    this.canvas = make("canvas", { tabindex: "0", role: "img" });
    this.first = make("span");
    this.newest = make("span");
    this.reading = make("output", { class: "dim" });
    this.empty = make("p", { class: "empty" });
    this.table = new LazyTable("", () => this.rows());
    const axis = make("p", { class: "axis", children: [this.first, this.reading, this.newest] });
    this.body = make("div", { children: [this.canvas, axis, this.table.element] });
    this.element = make("section", {
      class: "card chart map",
      "data-map": name,
      "aria-labelledby": this.title.id,
      children: [
        make("header", { children: [this.title, this.scale] }), this.body, this.empty,
      ],
    });
    this.columns = [];
    this.at = null;
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => this.read(null));
    this.canvas.addEventListener("keydown", (event) => this.move(event));
    this.canvas.addEventListener("blur", () => this.read(null));
  }

  update({ series }) {
    this.columns = evenly(series.vectors[this.name] ?? []);
    this.steps = series.step;
    this.label = series.label(this.name);
    this.title.textContent = this.label;
    this.table.name(text("newest_values"));
    this.empty.textContent = text("nothing_yet");
    const isEmpty = !this.columns.length;
    this.empty.hidden = !isEmpty;
    this.body.hidden = this.scale.hidden = isEmpty;
    this.element.dataset.points = String(this.columns.length);
    if (!isEmpty) this.draw();
    this.table.refresh();
  }

  draw() {
    const [columns, rows] = [this.columns.length, this.columns[0].length];
    const most = Math.max(SMALLEST_SCALE, ...this.columns.map((c) => Math.max(...c.map(Math.abs))));
    const ends = { low: rgb("--low"), middle: rgb("--middle"), high: rgb("--high") };
    const image = new ImageData(columns, rows);
    this.columns.forEach((column, x) => {
      column.forEach((value, y) => {
        const share = Math.min(1, Math.abs(value) / most);
        const end = value < 0 ? ends.low : ends.high;
        const at = 4 * (y * columns + x);
        for (let i = 0; i < 3; i += 1) {
          image.data[at + i] = ends.middle[i] + share * (end[i] - ends.middle[i]);
        }
        image.data[at + 3] = 255;
      });
    });
    this.canvas.width = columns;
    this.canvas.height = rows;
    this.canvas.getContext("2d").putImageData(image, 0, 0);
    const label = { name: this.label, rows: count(rows), columns: count(columns) };
    this.canvas.setAttribute("aria-label", text("map_label", label));
    this.scale.replaceChildren(
      number(-most, VALUE), make("i", { "aria-hidden": "true" }), number(most, VALUE),
    );
    this.first.textContent = `${text("step")} ${count(this.steps[0])}`;
    this.newest.textContent = count(this.steps.at(-1));
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const place = (offset, length, cells) =>
      Math.min(cells - 1, Math.max(0, Math.floor((offset / length) * cells)));
    this.read([
      place(event.clientX - box.left, box.width, this.columns.length),
      place(event.clientY - box.top, box.height, this.columns[0].length),
    ]);
  }

  move(event) {
    const direction = KEYS[event.key];
    if (!direction || !this.columns.length) return;
    event.preventDefault();
    const start = this.at ?? [this.columns.length - 1, 0];
    const ends = [this.columns.length, this.columns[0].length];
    this.read(start.map((at, i) => Math.min(ends[i] - 1, Math.max(0, at + direction[i]))));
  }

  read(at) {
    this.at = at;
    this.reading.textContent = at
      ? text("map_value", {
          step: count(this.steps[at[0]]),
          row: count(at[1] + 1),
          value: number(this.columns[at[0]][at[1]], VALUE),
        })
      : "";
  }

  rows() {
    const newest = this.columns.at(-1) ?? [];
    return [
      [text("row"), text("value")],
      Array.from(newest, (value, i) => [count(i + 1), number(value, VALUE)]),
    ];
  }
}

export class HeatMaps {
  constructor(place) {
    this.place = place;
    this.maps = [];
  }

  update(view) {
    const names = Object.keys(view.series.vectors);
    if (names.join() !== this.maps.map(({ name }) => name).join()) {
      this.maps = names.map((name) => new HeatMap(name));
      this.place.replaceChildren(...this.maps.map((map) => map.element));
    }
    for (const map of this.maps) map.update(view);
  }
}
