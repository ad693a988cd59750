// The page: a search, its hits, and a match above them.
//
// 1. The address holds what is asked (?q=...&where=...&k=...&id=...): it is read when the page opens and when somebody goes back,
//    and written when somebody asks. What is shown follows from it and from nothing else.
// 2. Texts are only ever set as text. A match comes as a document of its own, in a sandboxed frame.
"use strict";
const $ = (id) => document.getElementById(id);
const DEFAULTS = { k: 10, unit: "document", nprobe: 64, candidates: 512, margin: 2.5, exact: false };
const STAGES = ["encode", "probe", "gather", "fetch", "refine", "other", "snippets"];
const WORDS = { k: "hits", unit: "rank by", nprobe: "probes", candidates: "candidates", margin: "margin", exact: "every document" };

let facts = null; // of the index
let shown = null; // {key, asked, found}: the search that is on the page
let running = null; // AbortController of the one that is not yet
let opener = null; // what had the focus before the match

// ---- Asking

async function call(path, form, signal) {
  const request = form && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(form) };
  let response;
  try {
    response = await fetch(path, { ...request, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw { title: "The server does not answer", detail: "Is `colindex serve` still running?", status: 0 };
  }
  const answer = await response.json().catch(() => ({ title: "Not an answer", detail: `Status ${response.status}.` }));
  if (!response.ok) throw answer;
  return answer;
}

function settingsOf(asked) {
  const { nprobe, candidates, margin } = asked;
  return { query: asked.q, where: asked.where || null, k: asked.k, nprobe, candidates, margin, exact: asked.exact || null };
}

// ---- 1. The address

function readAddress() {
  const given = new URLSearchParams(location.search);
  const asked = { q: given.get("q") || "", where: given.get("where") || "", id: given.get("id"), ...DEFAULTS };
  for (const name of ["k", "nprobe", "candidates", "margin"]) {
    const value = Number(given.get(name));
    if (given.has(name) && given.get(name) !== "" && Number.isFinite(value)) asked[name] = value;
  }
  if (given.get("unit") === "sentence") asked.unit = "sentence";
  asked.exact = given.get("exact") === "1";
  return asked;
}

function addressOf(asked) {
  const given = new URLSearchParams();
  if (asked.q) given.set("q", asked.q);
  if (asked.where) given.set("where", asked.where);
  for (const [name, value] of Object.entries(DEFAULTS)) if (asked[name] !== value) given.set(name, asked[name] === true ? "1" : asked[name]);
  if (asked.id !== null && asked.id !== undefined) given.set("id", asked.id);
  const text = given.toString();
  return text ? `/?${text}` : "/";
}

function go(asked, { replace = false } = {}) {
  const address = addressOf(asked);
  const state = { opened: asked.id !== null };
  if (replace || address === location.pathname + location.search) history.replaceState(replace ? history.state : state, "", address);
  else history.pushState(state, "", address);
  follow();
}

async function follow() {
  const asked = readAddress();
  fill(asked);
  const key = JSON.stringify({ ...asked, id: null });
  if (!asked.q.trim()) {
    reset();
    return;
  }
  document.title = `${asked.q} – colindex`;
  if (asked.id !== null) openMatch(asked);
  else closeMatch();
  if (!shown || shown.key !== key) await search(asked, key);
  if (asked.id !== null && readAddress().id === asked.id) nameMatch(asked);
}

function fill(asked) {
  $("q").value = asked.q;
  $("where").value = asked.where;
  if (asked.where) $("filter").hidden = false;
  for (const name of ["k", "unit", "nprobe", "candidates", "margin"]) $(name).value = asked[name];
  $("exact").checked = asked.exact;
  tellChanged();
}

function formOf() {
  const number = (name) => ($(name).value === "" || !$(name).checkValidity() ? DEFAULTS[name] : Number($(name).value));
  return {
    q: $("q").value, where: $("where").value.trim(), unit: $("unit").value, exact: $("exact").checked, id: null,
    k: number("k"), nprobe: number("nprobe"), candidates: number("candidates"), margin: number("margin"),
  };
}

function tellChanged() {
  const form = formOf();
  const changed = Object.keys(DEFAULTS).filter((name) => form[name] !== DEFAULTS[name]);
  $("changed").textContent = changed.map((name) => (name === "exact" ? WORDS[name] : `${WORDS[name]} ${form[name]}`)).join(", ");
}

// ---- Hits

async function search(asked, key) {
  if (running) running.abort();
  const mine = (running = new AbortController());
  shown = null;
  $("results").setAttribute("aria-busy", "true");
  $("where-error").textContent = "";
  $("where").removeAttribute("aria-invalid");
  try {
    const found = await call("/api/search", { ...settingsOf(asked), unit: asked.unit }, mine.signal);
    shown = { key, asked, found };
    showFound(asked, found);
    if (!facts || found.generation !== facts.generation) describe();
  } catch (error) {
    if (error.name === "AbortError") return;
    showProblem(error);
  } finally {
    if (running === mine) $("results").setAttribute("aria-busy", "false");
  }
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function showFound(asked, found) {
  $("notice").hidden = true;
  $("missing").hidden = false;
  $("told").textContent = "";
  $("apply").hidden = true;
  const total = milliseconds(found.total_seconds);
  const count = found.hits.length === 1 ? "1 hit" : `${found.hits.length.toLocaleString("en")} hits`;
  $("count").textContent = `${count} in ${total} · generation ${found.generation}`;
  $("status").textContent = `${count} in ${total}`;
  $("summary").hidden = false;
  showStages(found.seconds);
  const { gathered, candidates, cache_hits, cache_misses, bytes_read } = found.counters;
  const read = cache_misses ? `, ${number(cache_misses)} read from disk (${bytes(bytes_read)})` : ", none read from disk";
  $("work").textContent =
    `${gathered > candidates ? `${number(gathered)} documents met, ` : ""}${number(candidates)} scored · blocks: ${number(cache_hits)} in the cache${read}`;
  if (!found.hits.length) {
    notice("No document was found", [asked.where ? "None meets the filter. Loosen it, or leave it empty." : "The index holds no documents."]);
    $("hits").replaceChildren();
    return;
  }
  const best = Math.max(...found.hits.map((hit) => hit.score ?? 0));
  $("hits").replaceChildren(...found.hits.map((hit) => hitItem(asked, hit, best)));
}

function hitItem(asked, hit, best) {
  const link = make("a", { href: addressOf({ ...asked, id: hit.id }), dir: "auto" });
  link.append(hit.title_is_best ? make("span", { className: "best", textContent: hit.title }) : hit.title || hit.id);
  link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    opener = link;
    go({ ...asked, id: hit.id });
  });
  const score = make("div", { className: "score", title: "MaxSim" }, hit.score === null ? "–" : hit.score.toFixed(3));
  const bar = make("meter", { min: 0, max: best > 0 ? best : 1, value: Math.max(hit.score ?? 0, 0) });
  bar.setAttribute("aria-hidden", "true");
  score.append(bar);
  const snippet = make("p", { className: "snippet", dir: "auto" });
  snippet.append(
    ...hit.snippet.map((piece) => {
      if (!piece.best && !piece.match) return piece.text;
      return make(piece.match ? "b" : "span", { className: piece.best ? "best" : "", textContent: piece.text });
    }),
  );
  const tags = make("p", { className: "tags" }, make("span", {}, make("code", { textContent: hit.id })));
  for (const [name, value] of Object.entries(hit.metadata).slice(0, 8)) {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    tags.append(make("span", {}, `${name} `, make("code", { textContent: text.length > 60 ? `${text.slice(0, 60)}…` : text })));
  }
  return make("li", {}, make("span", { className: "rank", textContent: hit.rank }), make("h3", {}, link), score, snippet, tags);
}

function showStages(seconds) {
  const stages = STAGES.filter((name) => seconds[name] > 0);
  const told = stages.map((name) => `${name} ${milliseconds(seconds[name])}`);
  $("stages").setAttribute("aria-label", `Time by stage: ${told.join(", ")}`);
  $("stages").replaceChildren(
    ...stages.map((name, at) => {
      const part = make("i", { className: `s${STAGES.indexOf(name)}`, title: told[at] });
      part.style.flexGrow = 1000 * seconds[name]; // a sum below 1 would not fill the bar
      return part;
    }),
  );
  $("legend").replaceChildren(...stages.map((name, at) => make("span", { className: `s${STAGES.indexOf(name)}`, textContent: told[at] })));
}

function showProblem(problem) {
  $("hits").replaceChildren();
  $("summary").hidden = true;
  $("missing").hidden = true;
  if (problem.field === "where") {
    $("filter").hidden = false;
    $("where-error").textContent = problem.detail;
    $("where").setAttribute("aria-invalid", "true");
    $("where").focus();
    $("notice").hidden = true;
    $("status").textContent = "";
    return;
  }
  const again = make("button", { type: "button", textContent: "Try again" });
  again.addEventListener("click", () => follow());
  const refused = problem.status >= 400 && problem.status < 500; // whatever is asked again is refused again
  notice(problem.title, [problem.detail], { bad: true, more: refused ? null : again });
}

function notice(title, paragraphs, { bad = false, more = null } = {}) {
  const parts = [make("h2", { textContent: title }), ...paragraphs.map((text) => make("p", { textContent: text }))];
  $("notice").replaceChildren(...parts, ...(more ? [more] : []));
  $("notice").classList.toggle("bad", bad);
  $("notice").hidden = false;
  $("status").textContent = `${title}. ${paragraphs.join(" ")}`;
}

function reset() {
  if (running) running.abort();
  shown = null;
  closeMatch();
  document.title = facts ? `${facts.name} – colindex` : "colindex";
  for (const id of ["summary", "missing"]) $(id).hidden = true;
  $("hits").replaceChildren();
  $("where-error").textContent = "";
  $("where").removeAttribute("aria-invalid");
  notice("Search by meaning, and see why", [
    "Each word of the question looks for the words that mean the same. Open a hit to see which met which, and what each adds to the score.",
  ]);
  $("status").textContent = "";
}

const number = (value) => value.toLocaleString("en");
const milliseconds = (seconds) => (seconds < 0.0995 ? `${(seconds * 1000).toFixed(1)} ms` : seconds < 10 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`);
function bytes(size) {
  for (const [unit, name] of [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) if (size >= unit) return `${(size / unit).toFixed(1)} ${name}`;
  return `${size} B`;
}

// ---- The index

async function describe() {
  try {
    facts = await call("/api/index");
  } catch (problem) {
    if (!shown) showProblem(problem);
    return;
  }
  const documents = facts.documents === 1 ? "1 document" : `${number(facts.documents)} documents`;
  $("facts").replaceChildren(make("b", { textContent: facts.name }), ` · ${documents} · generation ${facts.generation}`);
  $("memory").textContent = `${bytes(facts.resident_bytes)} of ${bytes(facts.budget)} in memory · ${facts.encoder || "no encoder"} · colindex ${facts.version}`;
  const filterable = facts.columns.filter((name) => !["id", "title"].includes(name.toLowerCase()));
  $("filter").hidden = !filterable.length && !$("where").value;
  const [first] = filterable;
  $("where").placeholder = first ? `${quoted(first)} IS NOT NULL` : "";
  $("columns").replaceChildren(...facts.columns.slice(0, 40).map(columnButton));
  if (!readAddress().q) document.title = `${facts.name} – colindex`;
}

const quoted = (name) => (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`);

function columnButton(name) {
  const button = make("button", { type: "button", textContent: name, title: `Put ${name} into the filter` });
  button.addEventListener("click", () => {
    const box = $("where");
    const start = box.selectionStart ?? box.value.length;
    const before = box.value.slice(0, start);
    box.setRangeText(`${before && !/\s$/.test(before) ? " " : ""}${quoted(name)} `, start, box.selectionEnd ?? start, "end");
    box.focus();
  });
  return button;
}

// ---- 2. A match

function openMatch(asked) {
  const dialog = $("match");
  const source = `/match?${new URLSearchParams({ query: asked.q, id: asked.id })}`;
  nameMatch(asked);
  $("alone").href = source;
  if ($("frame").dataset.source !== source || !dialog.open) loadFrame(source);
  if (dialog.open) return;
  opener = opener || document.activeElement;
  dialog.showModal();
  $("close").focus({ focusVisible: false });
}

function loadFrame(source) {
  const frame = $("frame");
  delete frame.dataset.ready;
  frame.dataset.source = source;
  $("match-notice").hidden = true;
  $("waiting").hidden = false;
  frame.contentWindow.location.replace(source); // no entry of its own in the history
}

// A match says that it is there; what does not is an error, which a frame does not tell: the API does.
async function frameLoaded() {
  const frame = $("frame");
  const { source } = frame.dataset;
  if (!source || "ready" in frame.dataset) return;
  let problem = { title: "The match did not load", detail: "Close it and try again." };
  try {
    await call(`/api/inspect?${source.split("?")[1]}&exact=false`);
  } catch (found) {
    problem = found;
  }
  if (frame.dataset.source !== source || "ready" in frame.dataset) return;
  $("waiting").hidden = true;
  $("match-notice").replaceChildren(make("h2", { textContent: problem.title }), make("p", { textContent: problem.detail }));
  $("match-notice").hidden = false;
}

function heard(event) {
  if (event.source !== $("frame").contentWindow) return;
  if (event.data === "close" && $("match").open) leaveMatch();
  if (event.data !== "ready" || !$("frame").dataset.source) return;
  $("frame").dataset.ready = "";
  $("waiting").hidden = true;
}

function nameMatch(asked) {
  const hits = shown ? shown.found.hits : [];
  const at = hits.findIndex((hit) => hit.id === asked.id);
  $("match-title").textContent = (at >= 0 && hits[at].title) || asked.id;
  $("match-place").textContent = at >= 0 ? `Hit ${at + 1} of ${hits.length}` : "No hit of this search";
  for (const [id, step] of [["previous", -1], ["next", 1]]) {
    const other = at < 0 ? undefined : hits[at + step];
    $(id).disabled = !other;
    $(id).dataset.id = other ? other.id : "";
  }
}

function closeMatch() {
  if (!$("match").open) return;
  $("match").close();
  $("frame").dataset.source = "";
  if (opener && opener.isConnected) opener.focus();
  opener = null;
}

function leaveMatch() {
  if (history.state && history.state.opened) history.back();
  else go({ ...readAddress(), id: null }, { replace: true });
}

function step(button) {
  if (button.disabled) return;
  const id = button.dataset.id;
  opener = [...document.querySelectorAll(".hits h3 a")].find((link) => new URL(link.href).searchParams.get("id") === id) || opener;
  go({ ...readAddress(), id }, { replace: true });
  if (button.disabled) $("close").focus();
}

// ---- Why not

async function explain(event) {
  event.preventDefault();
  if (!shown) return;
  const { asked } = shown;
  $("apply").hidden = true;
  $("told").className = "told";
  $("told").textContent = "Looking …";
  try {
    const found = await call("/api/explain", { ...settingsOf(asked), id: $("why-id").value });
    $("told").textContent = found.text;
    if (!found.advice) return;
    const { nprobe, candidates, margin, exact } = found.advice;
    $("apply").hidden = false;
    $("apply").onclick = () => go({ ...asked, nprobe, candidates, margin, exact: Boolean(exact), id: null });
  } catch (problem) {
    $("told").className = "told bad";
    $("told").textContent = problem.detail || String(problem);
  }
}

// ---- Beginning

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  shown = null; // the same question again is asked again
  go(formOf());
});
$("settings").addEventListener("input", tellChanged);
$("defaults").addEventListener("click", () => {
  for (const name of ["k", "unit", "nprobe", "candidates", "margin"]) $(name).value = DEFAULTS[name];
  $("exact").checked = DEFAULTS.exact;
  tellChanged();
});
$("why").addEventListener("submit", explain);
$("close").addEventListener("click", leaveMatch);
$("match").addEventListener("cancel", (event) => {
  event.preventDefault();
  leaveMatch();
});
$("match").addEventListener("click", (event) => {
  if (event.target === $("match")) leaveMatch(); // beside it
});
$("match").addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "ArrowLeft") step($("previous"));
  if (event.key === "ArrowRight") step($("next"));
});
for (const id of ["previous", "next"]) $(id).addEventListener("click", () => step($(id)));
$("match").addEventListener("close", () => {
  if (readAddress().id !== null) leaveMatch(); // the browser closed it
});
$("frame").addEventListener("load", frameLoaded);
window.addEventListener("message", heard);
window.addEventListener("popstate", () => follow());
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || $("match").open || /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) return;
  event.preventDefault();
  $("q").select();
});
describe();
follow();
if (!$("q").value && matchMedia("(hover: hover)").matches) $("q").focus(); // on a phone it would call the keyboard
