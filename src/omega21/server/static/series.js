// A run's aggregated results: columns, which replies extend. Metrics and vectors are maps of columns
// by name; a point that lacks one has null.

const SCALE = 127;
const SMOOTHING = 0.8;
const PACE_SECONDS = 60;
const WIDE = 200;
const PLAIN = [
  "step", "loss", "loss_min", "loss_max", "samples", "seconds", "ended_at", "non_finite",
];

export class Series {
  constructor() {
    this.reset(null, 1);
  }

  reset(id, width) {
    this.id = id;
    this.width = width;
    for (const name of PLAIN) this[name] = [];
    // Names come from a user's model: "constructor" may be one.
    [this.metrics, this.vectors] = [Object.create(null), Object.create(null)];
    [this.labels, this.headline] = [{}, []];
  }

  get last() {
    return this.step.at(-1) ?? 0;
  }

  // Adds a reply for the steps after `after`; false when everything has to be read again.
  take(reply, after) {
    const isOther = reply.id !== this.id || reply.width !== this.width || reply.step < this.last;
    if (isOther && after > 0) return false;
    if (isOther || after === 0) this.reset(reply.id, reply.width);
    const { points } = reply;
    // The newest stored point may have covered fewer steps than it does now.
    const first = points.step.length
      ? Math.floor((points.step[0] - 1) / this.width) * this.width
      : Infinity;
    while (this.last > first) this.drop();
    const [kept, added] = [this.step.length, points.step.length];
    for (const name of PLAIN) this[name].push(...points[name]);
    extend(this.metrics, points.metrics, kept, added);
    const decoded = Object.entries(points.vectors ?? {}).map(([name, v]) => [name, decode(v)]);
    extend(this.vectors, Object.fromEntries(decoded), kept, added);
    if (added) [this.labels, this.headline] = [reply.labels, reply.headline];
    return true;
  }

  drop() {
    for (const name of PLAIN) this[name].pop();
    for (const columns of [this.metrics, this.vectors]) {
      for (const column of Object.values(columns)) column.pop();
    }
  }

  // What a metric or a vector is called: its label, else its name as it is.
  label(name) {
    const label = own(this.labels, name);
    return label ? label[0].toUpperCase() + label.slice(1) : name;
  }

  // A loss that falls over several powers of ten would be a flat line on a linear axis: it gets a
  // logarithmic axis from its smallest positive value, which this returns; else null.
  get leastOfPowers() {
    let [least, most] = [Infinity, 0];
    for (const value of [...this.loss, ...this.loss_min, ...this.loss_max]) {
      if (value > 0) [least, most] = [Math.min(least, value), Math.max(most, value)];
    }
    return most / least > WIDE ? least : null;
  }

  // On the axis' scale: on a logarithmic one a plain mean would follow the highest value only.
  get smoothed() {
    const least = this.leastOfPowers;
    const [to, from] =
      least === null
        ? [(loss) => loss, (mean) => mean]
        : [(loss) => Math.log(Math.max(loss, least)), Math.exp];
    let sum = 0;
    let weight = 0;
    return this.loss.map((loss) => {
      if (loss === null) return null;
      sum = SMOOTHING * sum + (1 - SMOOTHING) * to(loss);
      weight = SMOOTHING * weight + (1 - SMOOTHING);
      return from(sum / weight);
    });
  }

  get speed() {
    return this.samples.map((samples, i) =>
      this.seconds[i] > 0 ? samples / this.seconds[i] : null,
    );
  }

  // Seconds per step and samples per second, in wall-clock time; null when unknown. Exponentially
  // weighted sums instead of a window, so that neither value jumps. A pause longer than their memory
  // is not counted as the duration of a step.
  get tempo() {
    let [steps, samples, seconds] = [0, 0, 0];
    for (let i = 0; i < this.step.length; i += 1) {
      const before = this.step[i - 1] ?? 0;
      const busy = this.seconds[i];
      let elapsed = i ? this.ended_at[i] - this.ended_at[i - 1] : busy;
      if (!(elapsed >= 0 && elapsed <= Math.max(PACE_SECONDS, 2 * busy))) elapsed = busy;
      const kept = Math.exp(-elapsed / Math.max(PACE_SECONDS, 10 * busy));
      steps = kept * steps + this.step[i] - before;
      samples = kept * samples + this.samples[i];
      seconds = kept * seconds + elapsed;
    }
    return seconds > 0 ? { pace: seconds / steps, rate: samples / seconds } : null;
  }

  // Seconds from the start of the first step to the end of the last one.
  get elapsed() {
    return this.step.length ? this.ended_at.at(-1) - (this.ended_at[0] - this.seconds[0]) : null;
  }
}

export const own = (map, name) => (Object.hasOwn(map, name) ? map[name] : undefined);

// Adds `added` points to columns that have `kept`; those that the points lack, or that are new, are
// filled up with null.
function extend(columns, points, kept, added) {
  for (const name of Object.keys(points)) columns[name] ??= new Array(kept).fill(null);
  for (const [name, column] of Object.entries(columns)) {
    column.push(...(own(points, name) ?? new Array(added).fill(null)));
  }
}

function decode({ size, scale, values }) {
  const raw = Uint8Array.from(atob(values), (letter) => letter.charCodeAt(0));
  const all = Float32Array.from(new Int8Array(raw.buffer), (value) => (value * scale) / SCALE);
  return Array.from({ length: all.length / size }, (_, i) => all.subarray(i * size, (i + 1) * size));
}
