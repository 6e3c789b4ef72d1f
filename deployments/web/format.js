// How every number on the page is written, in one place. null and undefined are "no figure".

export const NONE = "–";
const MINUS = "−";

const isFigure = (value) => typeof value === "number" && Number.isFinite(value);
const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

// Three digits that count: 4.00, 13.2, 870, 12,345.
function three(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 999.5) return grouped.format(value);
  return value.toFixed(size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2);
}

// 0.0132 -> "13.2 ms"
export function seconds(value) {
  if (!isFigure(value)) return NONE;
  if (value === 0) return "0 ms";
  if (value < 0.9995e-3) return `${three(value * 1e6)} µs`;
  if (value < 0.9995) return `${three(value * 1e3)} ms`;
  if (value < 599.5) return `${three(value)} s`;
  return `${three(value / 60)} min`;
}

export function rate(value) {
  if (!isFigure(value)) return NONE;
  return value > 0 && value < 0.005 ? "< 0.01" : three(value);
}

export const perSecond = (value) => (isFigure(value) ? `${rate(value)}/s` : NONE);
export const mean = rate;
export const count = (value) => (isFigure(value) ? grouped.format(value) : NONE);

// 0.055 -> "5.5%"
export function percent(value) {
  if (!isFigure(value)) return NONE;
  const size = value * 100;
  if (size > 0 && size < 0.05) return "< 0.1%";
  return size >= 99.95 || Number.isInteger(size) || size >= 9.95 ? `${roundTo(size, 1)}%` : `${size.toFixed(1)}%`;
}

const roundTo = (value, digits) => {
  const rounded = Number(value.toFixed(digits));
  return Number.isInteger(rounded) ? String(rounded) : rounded.toFixed(digits);
};

export function bytes(value) {
  if (!isFigure(value)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let power = 0;
  while (value >= 1023.5 && power < units.length - 1) {
    value /= 1024;
    power += 1;
  }
  return `${power ? three(value) : grouped.format(value)} ${units[power]}`;
}

const clockOf = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minuteOf = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });

export const clock = (unix) => (isFigure(unix) ? clockOf.format(unix * 1000) : NONE);
export const minute = (unix) => minuteOf.format(unix * 1000);

// Of a candidate, next to the stable version: "+12%" more, "−3%" less, "same".
export function difference(value, reference) {
  if (!isFigure(value) || !isFigure(reference) || reference === 0) return "";
  const change = (value / reference - 1) * 100;
  if (Math.abs(change) < 0.5) return "same";
  const size = Math.abs(change);
  const told = size >= 999.5 ? `${three(size / 100 + (change > 0 ? 1 : 0))}×` : `${size.toFixed(0)}%`;
  return `${change > 0 ? "+" : MINUS}${told}`;
}

// On an axis: "5.00 ms" -> "5 ms".
export const short = (text) => text.replace(/\.(\d*?)0+(?=\D|$)/, (_, digits) => (digits ? `.${digits}` : ""));

export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
