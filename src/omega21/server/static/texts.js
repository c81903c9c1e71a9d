// The page's texts, numbers and dates in the chosen language.

const CATALOGUE = await (await fetch(new URL("./texts.json", import.meta.url))).json();
const KEPT = "omega21-language";

let language = "en";

export function chooseLanguage(asked) {
  const wanted = asked ?? recall() ?? navigator.language;
  language = wanted.toLowerCase().startsWith("es") ? "es" : "en";
  document.documentElement.lang = language;
  if (asked) remember(asked);
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = text(element.dataset.text);
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", text(element.dataset.label));
  }
  for (const element of document.querySelectorAll("[data-hint]")) {
    element.placeholder = text(element.dataset.hint);
  }
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === language));
  }
}

// The browser's settings may forbid storage; then the choice applies to this page only.
function recall() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null;
  }
}

function remember(chosen) {
  try {
    localStorage.setItem(KEPT, chosen);
  } catch {
    console.debug("the language is not kept: storage is forbidden");
  }
}

export function text(key, values = {}) {
  return CATALOGUE[language][key].replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

export function number(value, options) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return new Intl.NumberFormat(language, options ?? figure(value)).format(value);
}

function figure(value) {
  const isTiny = value !== 0 && Math.abs(value) < 0.001;
  return isTiny
    ? { notation: "scientific", maximumSignificantDigits: 3 }
    : { maximumSignificantDigits: 4 };
}

export const count = (value) => number(value, { maximumFractionDigits: 0 });

// Only 1 is 100%, and only a score of 1 is 1.0000: lower values get enough digits to show it.
function telling(value, digits) {
  while (value < 1 && Number(value.toFixed(digits)) >= 1) digits += 1;
  return digits;
}

export function share(value) {
  return number(value, { style: "percent", maximumFractionDigits: telling(value, 2) - 2 });
}

export function score(value, digits = 4) {
  if (value === null || value === undefined) return number(null);
  if (value > 0 && value < 0.5 * 10 ** -digits) return number(value);
  const form = { minimumFractionDigits: digits, maximumFractionDigits: telling(value, digits) };
  return number(value, form);
}

export function bytes(value) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  let power = 0;
  for (; value >= 1000 && power < units.length - 1; power += 1) value /= 1000;
  const unit = { style: "unit", unit: units[power], unitDisplay: power ? "short" : "long" };
  return number(value, { ...unit, maximumFractionDigits: value < 100 && power > 1 ? 1 : 0 });
}

export function clock(seconds) {
  const date = new Date(seconds * 1000);
  const today = date.toDateString() === new Date().toDateString();
  const form = today ? { timeStyle: "medium" } : { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(language, form).format(date);
}

export function duration(seconds) {
  const [amount, unit] =
    seconds < 90 ? [seconds, "second"]
    : seconds < 5400 ? [seconds / 60, "minute"]
    : seconds < 172800 ? [seconds / 3600, "hour"]
    : [seconds / 86400, "day"];
  return number(Math.max(1, Math.round(amount)), { style: "unit", unit, unitDisplay: "long" });
}
