// Numbers and times for people.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const precise = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** 12,345; below a hundred with up to three digits. */
export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return Math.abs(value) < 100 && !Number.isInteger(value) ? precise.format(value) : whole.format(value);
}

/** 123 MB */
export function bytes(value) {
  if (!value) return value === 0 ? "0 B" : "–";
  const power = Math.min(Math.floor(Math.log10(Math.abs(value)) / 3), 4);
  return `${precise.format(value / 1000 ** power)} ${["B", "KB", "MB", "GB", "TB"][power]}`;
}

/** Seconds as 3.4 ms, 12 s, 5 min. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  if (seconds < 1) return `${precise.format(seconds * 1000)} ms`;
  if (seconds < 120) return `${precise.format(seconds)} s`;
  if (seconds < 7200) return `${whole.format(seconds / 60)} min`;
  return seconds < 172800 ? `${whole.format(seconds / 3600)} h` : `${whole.format(seconds / 86400)} days`;
}

/** How long ago a moment was: seconds since 1970, or a date as text. */
export function ago(moment) {
  const at = instant(moment);
  return at === null ? "–" : `${duration(Math.max(0, Math.round((Date.now() - at) / 1000)))} ago`;
}

/** The time of day. */
export function clock(moment = Date.now()) {
  return new Date(instant(moment) ?? Date.now()).toTimeString().slice(0, 8);
}

function instant(moment) {
  if (moment === null || moment === undefined || moment === "") return null;
  if (typeof moment === "string") return Date.parse(moment);
  return moment < 1e11 ? moment * 1000 : moment;
}

/** A node for people: its name, or the beginning of a long id. */
export function nodeName(name) {
  return /^[0-9a-f]{12,}$/i.test(name ?? "") ? name.slice(0, 8) : name;
}
