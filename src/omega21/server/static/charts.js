// Line charts: uPlot with its own legend, description and table.

import { LazyTable, make } from "./elements.js";
import { own } from "./series.js";
import { bytes, clock, count, number, score, text } from "./texts.js";

const HEIGHT = 190;
const TABLE_ROWS = 50;
const FEW_POINTS = 40;
const SYNC = "steps";
const MOST_POWERS = 5;

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const SCORES = new Set([
  "auroc", "average_precision", "positives", "true_positives", "false_positives",
]);
const isScored = (row) => Object.hasOwn(row.metrics, "auroc");
const evaluated = ({ evaluations }, name) => evaluations.map((row) => own(row.metrics, name) ?? null);

// Each evaluation's value at the point that covers its step.
function heldOut({ series, evaluations }, read) {
  const column = new Array(series.step.length).fill(null);
  let at = 0;
  for (const row of evaluations) {
    while (at < column.length && series.step[at] < row.step) at += 1;
    if (at < column.length) column[at] = read(row) ?? null;
  }
  return column;
}

const metricChart = (name) => ({
  mayBeShare: true,
  title: (view) => view.series.label(name),
  lines: [
    {
      key: "mean", color: "--series-1",
      read: ({ series }) => series.metrics[name] ?? series.step.map(() => null),
    },
    { key: "held_out", color: "--series-2", read: (view) => heldOut(view, (row) => own(row.metrics, name)) },
  ],
});

// The charts of a run: the loss, one for each metric, and those of every run.
function definitions(view) {
  const names = new Set([
    ...Object.keys(view.series.metrics),
    ...view.evaluations.flatMap((row) => Object.keys(row.metrics)).filter((name) => !SCORES.has(name)),
  ]);
  const { loss, ...others } = CHARTS;
  const metrics = [...names].map((name) => [`metric-${name}`, metricChart(name)]);
  return [["loss", loss], ...metrics, ...Object.entries(others)];
}

const CHARTS = {
  loss: {
    mayBeLogarithmic: true,
    lines: [
      { key: "loss_mean", color: "--series-1", read: (view) => view.series.loss },
      { key: "loss_smooth", color: "--series-2", read: (view) => view.series.smoothed },
      { key: "loss_high", edge: true, read: (view) => view.series.loss_max },
      { key: "loss_low", edge: true, read: (view) => view.series.loss_min },
      { key: "held_out", color: "--ink", read: (view) => heldOut(view, (row) => row.loss) },
    ],
  },
  evaluation: {
    mayBeShare: true,
    isShown: ({ evaluations }) => !evaluations.length || evaluations.some(isScored),
    x: (view) => view.evaluations.map((row) => row.step),
    lines: [
      { key: "auroc", color: "--series-1", read: (view) => evaluated(view, "auroc") },
      { key: "average_precision", color: "--series-2", read: (view) => evaluated(view, "average_precision") },
    ],
  },
  throughput: {
    lines: [{ key: "samples_per_second", color: "--series-1", read: (view) => view.series.speed }],
  },
  memory: {
    x: (view) => view.memory.map((sample) => sample.at),
    isTime: true,
    show: (megabytes) => (megabytes === null ? "–" : bytes(megabytes * 1e6)),
    lines: [
      { key: "memory_process", color: "--series-1", read: ({ memory }) => memory.map((m) => m.process_mb) },
      {
        key: "memory_device", color: "--series-2",
        read: ({ memory }) => memory.map((m) => m.device_mb || null),
      },
    ],
  },
};

class Chart {
  constructor(name, definition) {
    this.name = name;
    this.definition = definition;
    this.show = definition.show ?? (definition.mayBeShare ? shown : (value) => number(value));
    this.tick = definition.isTime ? this.show : (value) => number(value);
    this.title = make("h2", { id: `chart-${name}` });
    this.legend = make("p", { class: "legend" });
    this.plot = make("div", { class: "plot", role: "img" });
    this.empty = make("p", { class: "empty" });
    this.table = new LazyTable("", () => this.rows());
    this.element = make("section", {
      class: "card chart",
      "data-chart": name,
      "aria-labelledby": this.title.id,
      children: [
        make("header", { children: [this.title, this.legend] }),
        this.plot, this.empty, this.table.element,
      ],
    });
    this.data = [[]];
    new ResizeObserver(() => this.fit()).observe(this.plot);
  }

  update(view) {
    const { x, lines } = this.definition;
    const columns = lines.map((line) => line.read(view));
    this.used = lines.map((line, i) => columns[i].some((value) => value !== null));
    this.data = [x ? x(view) : view.series.step, ...columns];
    this.least = this.definition.mayBeLogarithmic ? view.series.leastOfPowers : null;
    const title = this.definition.title?.(view) ?? text(this.name);
    this.element.hidden = !(this.definition.isShown?.(view) ?? true);
    const isEmpty = !this.used.some(Boolean);
    this.title.textContent = title;
    this.table.name(text("as_table"));
    this.empty.textContent = text("nothing_yet");
    this.empty.hidden = !isEmpty;
    this.plot.hidden = isEmpty;
    this.table.element.hidden = isEmpty;
    this.element.dataset.points = String(this.data[0].length);
    this.describe();
    if (!isEmpty) this.draw();
    this.table.refresh();
  }

  // The legend: each line's value under the cursor, or its newest value.
  describe(index = null) {
    const shown = this.definition.lines.flatMap((line, i) => {
      if (line.edge || !this.used[i]) return [];
      const column = this.data[i + 1];
      const value = index === null ? column.findLast((known) => known !== null) : column[index];
      return [{ line, value: this.show(value ?? null) }];
    });
    this.legend.replaceChildren(
      ...shown.map(({ line, value }) => {
        const swatch = make("i", { "aria-hidden": "true" });
        swatch.style.background = `var(${line.color})`;
        const name = make("span", { text: `${text(line.key)} ` });
        return make("span", { children: [swatch, name, make("b", { text: value })] });
      }),
    );
    if (index !== null) return;
    const values = shown.map(({ line, value }) => `${text(line.key)} ${value}`).join(", ");
    const key = shown.length ? "chart_label" : "chart_empty";
    this.plot.setAttribute("aria-label", text(key, { name: this.title.textContent, value: values }));
  }

  draw() {
    const [x, ...columns] = this.data;
    const { least } = this;
    const isLogarithmic = least !== null;
    const drawn = isLogarithmic ? [x, ...columns.map((column) => raised(column, least))] : this.data;
    if (isLogarithmic !== this.isLogarithmic) {
      this.isLogarithmic = isLogarithmic;
      this.drawing?.destroy();
      this.drawing = undefined;
    }
    if (!this.drawing) {
      this.drawing = new uPlot(this.options(), drawn, this.plot);
    } else {
      this.drawing.setData(drawn);
    }
  }

  fit() {
    const width = this.plot.clientWidth;
    if (this.drawing && width && width !== this.drawing.width) {
      this.drawing.setSize({ width, height: HEIGHT });
    }
  }

  // uPlot reads colours and language when it is created: a change needs a new chart.
  redraw() {
    this.drawing?.destroy();
    this.drawing = undefined;
    if (!this.plot.hidden) this.draw();
  }

  options() {
    const { isTime, lines, mayBeShare } = this.definition;
    const axis = {
      stroke: color("--dim"),
      grid: { stroke: color("--grid"), width: 1 },
      ticks: { show: false },
      font: "12px system-ui, sans-serif",
    };
    const width = this.plot.clientWidth || 320;
    return {
      width,
      height: HEIGHT,
      padding: [10, 12, 0, 0],
      legend: { show: false },
      cursor: {
        y: false,
        drag: { x: false, y: false },
        points: { size: 7 },
        ...(!isTime && { sync: { key: SYNC, setSeries: false } }),
      },
      scales: {
        x: { time: false, range: fromFirstToLast },
        y: this.isLogarithmic
          ? { distr: 3, range: (_, low, high) => [low / 1.5, high * 1.5] }
          : { range: (_, low, high) => spread(low, high, mayBeShare && high <= 1 ? 1 : Infinity) },
      },
      axes: [
        {
          ...axis,
          size: 30,
          space: isTime ? 90 : 60,
          ...(!isTime && { incrs: whole() }),
          values: (_, splits) => splits.map((at) => (isTime ? clock(at) : count(at))),
        },
        {
          ...axis,
          // Label every chosen power: uPlot omits labels that are close to another.
          ...(this.isLogarithmic && { splits: powersOfTen, filter: (_, splits) => splits }),
          size: 58,
          space: 36,
          values: (_, splits) => splits.map((at) => (at === null ? "" : this.tick(at))),
        },
      ],
      series: [{}, ...lines.map((line) => this.line(line))],
      bands: lines.some((line) => line.edge)
        ? [{ series: [3, 4], fill: `${color("--series-1")}2e` }]
        : [],
      hooks: { setCursor: [(drawing) => this.describe(drawing.cursor.idx ?? null)] },
    };
  }

  line(line) {
    const few = (drawing) => drawing.data[0].length < FEW_POINTS;
    if (line.edge) return { stroke: "transparent", width: 0, points: { show: false } };
    return {
      stroke: color(line.color),
      width: 1.75,
      spanGaps: true,
      points: { show: few, size: 6, fill: color(line.color) },
    };
  }

  rows() {
    const { isTime, lines } = this.definition;
    const head = [text(isTime ? "time" : "step")];
    const shown = lines.map((_, i) => i).filter((i) => this.used[i]);
    head.push(...shown.map((i) => text(lines[i].key)));
    const first = Math.max(0, this.data[0].length - TABLE_ROWS);
    const rows = this.data[0].slice(first).map((x, i) => [
      isTime ? clock(x) : count(x),
      ...shown.map((line) => this.show(this.data[line + 1][first + i])),
    ]);
    return [head, rows.reverse()];
  }
}

// Limits from the data: for a single point uPlot's own go from 0 to twice its value.
function fromFirstToLast({ data: [x] }) {
  if (!x.length) return [0, 1];
  const [first, last] = [x[0], x.at(-1)];
  return first < last ? [first, last] : [first - 1, last + 1];
}

function spread(low, high, most = Infinity) {
  if (low === null) return [0, 1];
  const room = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
  return [low >= 0 ? Math.max(0, low - room) : low - room, Math.min(most, high + room)];
}

// A value in [0, 1] is shown as a score.
const shown = (value) => (value >= 0 && value <= 1 ? score(value) : number(value));

// A loss of exactly zero cannot be drawn on a logarithmic axis.
const raised = (column, least) =>
  column.map((value) => (value === null ? null : Math.max(value, least)));

// uPlot's own ticks of a logarithmic axis do not terminate for a tiny minimum.
function powersOfTen(drawing, axis, low, high) {
  const first = Math.ceil(Math.log10(low));
  const last = Math.floor(Math.log10(high));
  const apart = Math.ceil((last - first + 1) / MOST_POWERS);
  const powers = [];
  for (let power = first; power <= last; power += apart) powers.push(Number(`1e${power}`));
  return powers;
}

function whole() {
  const steps = [];
  for (let power = 1; power <= 1e9; power *= 10) steps.push(power, 2 * power, 5 * power);
  return steps;
}

export class Charts {
  constructor(place) {
    this.place = place;
    this.charts = [];
  }

  update(view) {
    const wanted = definitions(view);
    if (wanted.map(([name]) => name).join() !== this.charts.map(({ name }) => name).join()) {
      const known = new Map(this.charts.map((chart) => [chart.name, chart]));
      this.charts = wanted.map(([name, chart]) => known.get(name) ?? new Chart(name, chart));
      this.place.replaceChildren(...this.charts.map((chart) => chart.element));
    }
    for (const chart of this.charts) chart.update(view);
  }

  redraw() {
    for (const chart of this.charts) chart.redraw();
  }
}
