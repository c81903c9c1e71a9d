// A run's thinned-out results as the page holds them: columns, which replies extend.

const SCALE = 127;
const SMOOTHING = 0.8;
const PLAIN = [
  "step", "loss", "loss_min", "loss_max", "anomaly_prob", "samples", "seconds", "ended_at",
  "refused",
];
const VECTORS = ["dendrites", "coherence"];

export class Series {
  constructor() {
    this.reset(null, 1);
  }

  reset(id, width) {
    this.id = id;
    this.width = width;
    for (const name of PLAIN) this[name] = [];
    for (const name of VECTORS) this[name] = [];
  }

  get last() {
    return this.step.at(-1) ?? 0;
  }

  // Takes a reply that covers what came after `after`; false when everything has to be read again.
  take(reply, after) {
    const isOther = reply.id !== this.id || reply.width !== this.width || reply.step < this.last;
    if (isOther && after > 0) return false;
    if (isOther || after === 0) this.reset(reply.id, reply.width);
    const { points } = reply;
    // The newest point that we have may have covered fewer steps than it does now.
    const first = points.step.length
      ? Math.floor((points.step[0] - 1) / this.width) * this.width
      : Infinity;
    while (this.last > first) this.drop();
    for (const name of PLAIN) this[name].push(...points[name]);
    for (const name of VECTORS) this[name].push(...decode(points[name], points.step.length));
    return true;
  }

  drop() {
    for (const name of [...PLAIN, ...VECTORS]) this[name].pop();
  }

  get smoothed() {
    let sum = 0;
    let weight = 0;
    return this.loss.map((loss) => {
      if (loss === null) return null;
      sum = SMOOTHING * sum + (1 - SMOOTHING) * loss;
      weight = SMOOTHING * weight + (1 - SMOOTHING);
      return sum / weight;
    });
  }

  get speed() {
    return this.samples.map((samples, i) =>
      this.seconds[i] > 0 ? samples / this.seconds[i] : null,
    );
  }

  // Seconds for a step, by the clock on the wall, over the newest points; null when not known.
  get pace() {
    const newest = this.step.length - 1;
    const before = Math.max(0, newest - 12);
    const steps = this.step[newest] - this.step[before];
    return steps > 0 ? (this.ended_at[newest] - this.ended_at[before]) / steps : null;
  }
}

function decode(base64, count) {
  const raw = Uint8Array.from(atob(base64 ?? ""), (letter) => letter.charCodeAt(0));
  const values = Float32Array.from(new Int8Array(raw.buffer), (value) => value / SCALE);
  const rows = values.length / count;
  return Array.from({ length: count }, (_, i) => values.subarray(i * rows, (i + 1) * rows));
}
