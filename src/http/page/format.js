// Numbers, times and bytes as people read them.

const COUNT = new Intl.NumberFormat("en");
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const NONE = "–";

const isNumber = n => typeof n === "number" && Number.isFinite(n);

export const count = n => isNumber(n) ? COUNT.format(Math.round(n)) : NONE;

export const compact = n => isNumber(n) ? COMPACT.format(n) : NONE;

export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** Bytes in the units that the rest of Sapwood prints. */
export function size(n) {
  if (!isNumber(n)) return NONE;
  if (n < 1024) return `${Math.round(n)} B`;
  let unit = 0;
  for (n /= 1024; n >= 999.5 && unit < 3; unit += 1) n /= 1024;
  return `${n < 9.95 ? n.toFixed(1) : Math.round(n)} ${["KiB", "MiB", "GiB", "TiB"][unit]}`;
}

/** A length of time in milliseconds, with the one unit that matters. */
export function span(ms) {
  if (!isNumber(ms)) return NONE;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** How long ago; tenths of seconds would only flicker. */
export function ago(ms) {
  if (!isNumber(ms)) return NONE;
  return ms < 1000 ? "now" : `${span(Math.floor(ms / 1000) * 1000).replace(".0", "")} ago`;
}

/** The time of day, with the date before it if that is not today. */
export function moment(text) {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return NONE;
  const clock = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.${String(time.getMilliseconds()).padStart(3, "0")}`;
  return day(time) === day(new Date()) ? clock : `${day(time)} ${clock}`;
}

const two = n => String(n).padStart(2, "0");

const day = time => `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;

/** Names as a list, of which the first few are named. */
export function names(list, most = 4) {
  if (list.length <= most) return list.join(", ");
  return `${list.slice(0, most - 1).join(", ")} and ${count(list.length - most + 1)} more`;
}

// What would not be seen, or would change how its neighbours are read: controls, direction marks, other invisible
// characters, lone surrogates, spaces that are not the usual one, and those at either end.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}\p{Cn}]|(?! )\p{Zs}|^ +| +$/gu;

/** Bytes as the API sends them, cut to `most` characters: pieces of text, each either as it is or an escape. */
export function pieces(bytes, most = 200) {
  if (!bytes) return [];
  const found = "text" in bytes ? ofText(bytes.text, most) : ofBase64(bytes.base64 ?? "", most);
  if (bytes.cut || found.cut) found.list.push({ escape: true, text: "…" });
  return found.list;
}

function ofText(text, most) {
  const cut = text.length > most;
  const list = [];
  let from = 0;
  if (cut) text = text.slice(0, most);
  for (const match of text.matchAll(UNSEEN)) {
    if (match.index > from) list.push({ text: text.slice(from, match.index) });
    const spaces = match[0].startsWith(" ");
    list.push({ escape: true, text: spaces ? match[0] : `\\u{${match[0].codePointAt(0).toString(16)}}` });
    from = match.index + match[0].length;
  }
  if (from < text.length) list.push({ text: text.slice(from) });
  return { list, cut };
}

function ofBase64(base64, most) {
  const cut = base64.length > most * 4 / 3 + 4;
  const binary = atob(cut ? base64.slice(0, Math.floor(most / 3) * 4) : base64);
  const list = [];
  let plain = "", escaped = "";
  const flush = () => {
    if (plain) list.push({ text: plain });
    if (escaped) list.push({ escape: true, text: escaped });
    plain = escaped = "";
  };
  for (const char of binary) {
    const code = char.charCodeAt(0);
    const seen = code >= 0x20 && code < 0x7f && char !== "\\";
    if (seen ? escaped : plain) flush();
    if (seen) plain += char;
    else escaped += `\\x${code.toString(16).padStart(2, "0")}`;
  }
  flush();
  return { list, cut };
}

/** The same as one line of text. */
export const line = (bytes, most) => pieces(bytes, most).map(piece => piece.text).join("");

/** Two values of the API's bytes are the same. */
export const same = (a, b) => a === b || !!a && !!b && a.text === b.text && a.base64 === b.base64;

/** A key as a word, for maps and addresses. */
export const word = bytes => "text" in bytes ? `t${bytes.text}` : `b${bytes.base64}`;
