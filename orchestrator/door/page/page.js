// SPDX-License-Identifier: Apache-2.0
// Runs of this orchestrator, past and running. Everything that a model or a user wrote reaches the page as text.
"use strict";

const $ = (id) => document.getElementById(id);
const REFRESH_MS = 3000;
const STATES = { RUN_STATE_PENDING: "running", RUN_STATE_RUNNING: "running", RUN_STATE_SUCCEEDED: "succeeded",
  RUN_STATE_FAILED: "failed", RUN_STATE_CANCELLED: "cancelled" };

let token = sessionStorage.getItem("token") || "";
let oldest = 0;          // number of the oldest run listed
let shown = null;        // the run in view

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function get(path, options) {
  const reply = await fetch(path, { headers: token ? { Authorization: "Bearer " + token } : {}, ...options });
  $("login").hidden = reply.status !== 401;
  if (!reply.ok) {
    const error = await reply.json().catch(() => ({}));
    throw new Error((error.error && error.error.message) || "HTTP " + reply.status);
  }
  return reply;
}

function notice(error) { $("notice").textContent = error ? error.message || String(error) : ""; }

// ---- The list

function listed(run) {
  const button = element("button");
  button.dataset.run = run.run_id;
  const state = STATES[run.state] || "running";
  button.append(element("span", run.question || "(no question)", "question"),
    element("span", `${run.graph} · `, "soft"), element("span", state, "soft " + state),
    element("span", ` · ${run.calls} calls · ${run.tokens} tokens${run.answer ? " · " + run.answer : ""}`, "soft"));
  button.onclick = () => { location.hash = run.run_id; };
  const item = element("li");
  item.append(button);
  return item;
}

async function refresh() {
  try {
    const page = await (await get("/api/runs")).json();
    const known = new Set(page.runs.map((run) => run.run_id));
    const kept = [...$("runs").children].filter((item) => !known.has(item.firstChild.dataset.run));
    $("runs").replaceChildren(...page.runs.map(listed), ...kept);
    if (!kept.length) { oldest = page.next; $("more").hidden = !page.next; }
    mark();
    notice();
    if (!location.hash && page.runs.length) open(page.runs[0].run_id);
  } catch (error) { notice(error); }
}

async function older() {
  const page = await (await get("/api/runs?before=" + oldest)).json();
  $("runs").append(...page.runs.map(listed));
  oldest = page.next;
  $("more").hidden = !page.next;
}

function mark() {
  for (const button of $("runs").querySelectorAll("button")) {
    button.setAttribute("aria-current", String(shown !== null && button.dataset.run === shown.id));
  }
}

// ---- One run

function fresh(id) {
  return { id, nodes: new Map(), calls: new Map(), order: [], stop: new AbortController(), last: 0, ended: false };
}

async function open(id) {
  if (shown) shown.stop.abort();
  const run = shown = fresh(id);
  $("run").hidden = false;
  for (const part of ["title", "question", "facts", "answer", "graph", "edges", "flips", "transcript"]) {
    $(part).replaceChildren();
  }
  mark();
  try { await follow(run); } catch (error) { if (!run.stop.signal.aborted) notice(error); }
}

// Server-sent events by fetch, because an EventSource cannot bring a token.
async function follow(run) {
  const reply = await get(`/api/events?run=${encodeURIComponent(run.id)}`, { signal: run.stop.signal });
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      if (part.startsWith("data: ")) await take(run, JSON.parse(part.slice(6)));
    }
  }
}

const placeOf = (path) => path.replace(/\[\d+\]/g, "");  // over rounds
const keyOf = (path, key) => [path, key.member, key.sample || 0, key.subject ?? -1].join("|");

function node(run, path) {
  if (!run.nodes.has(path)) {
    const made = { path, place: placeOf(path), started: false, finished: false, total: 0, ended: 0, written: 0, read: 0,
      box: element("div") };
    made.head = element("h4", path);
    made.box.append(made.head);
    $("transcript").append(made.box);
    run.nodes.set(path, made);
  }
  return run.nodes.get(path);
}

function call(run, path, key) {
  const id = keyOf(path, key);
  if (!run.calls.has(id)) {
    const made = { id, path, key, box: element("details"), head: element("summary", key.member + " speaks …"),
      text: element("pre") };
    made.box.append(made.head, made.text);
    node(run, path).box.append(made.box);
    run.calls.set(id, made);
    run.order.push(made);
  }
  return run.calls.get(id);
}

async function take(run, event) {
  if (event.error) return notice(event.error);
  const path = event.node_path || "";
  if (event.run_started) await begin(run, event.run_started);
  if (event.node_started) {
    const at = node(run, path);
    at.started = true;
    at.finished = false;
    at.total += event.node_started.call_count || 0;
  }
  if (event.call_started) call(run, path, event.call_started.key);
  if (event.token_delta) call(run, path, event.token_delta.key).text.textContent += event.token_delta.text;
  if (event.call_finished) finished(run, path, event);
  if (event.call_lost) lost(run, path, event.call_lost);
  if (event.node_finished) closeNode(run, path, event.node_finished);
  if (event.run_finished) end(run, event.run_finished);
  light(run);
}

async function begin(run, started) {
  $("title").textContent = `${started.graph} · ${run.id}`;
  $("question").textContent = (started.inputs && started.inputs.question) || "";
  $("facts").textContent = "running";
  $("facts").className = "soft running";
  try {
    const svg = await (await get("/api/graph?name=" + encodeURIComponent(started.graph))).text();
    const parsed = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
    if (run === shown && parsed.nodeName === "svg") $("graph").replaceChildren(document.importNode(parsed, true));
  } catch { $("graph").textContent = "This graph came with the run and is not drawn here."; }
}

function finished(run, path, event) {
  const done = event.call_finished;
  const one = call(run, path, done.key);
  const usage = done.usage || {};
  const at = node(run, path);
  const written = Number(usage.output_token_count || 0), read = Number(usage.prompt_token_count || 0);
  one.sequence = Number(event.sequence_number);
  one.answer = done.answer;
  one.role = done.role;
  at.ended += 1;
  at.written += written;
  at.read += read;
  const parts = [`${done.key.member}${done.key.sample ? " #" + done.key.sample : ""}`];
  if (done.answer !== undefined) parts.push("answer " + done.answer);
  if (done.score !== undefined) parts.push("score " + Number(done.score).toFixed(2));
  if (done.label !== undefined) parts.push(done.label);
  parts.push(`${read} → ${written} tokens`);
  one.head.textContent = parts.join(" · ");
  one.text.textContent = done.text || "";
  const prompt = element("details");
  prompt.append(element("summary", "prompt"));
  for (const message of done.prompt || []) prompt.append(element("pre", `${message.role}: ${message.content}`, "prompt"));
  one.box.append(prompt);
}

function lost(run, path, gone) {
  const one = call(run, path, gone.key);
  one.head.textContent = `${gone.key.member}: ${gone.will_retry ? "lost, asked again" : "lost"}: ${gone.message || ""}`;
  one.text.textContent = (gone.partial && gone.partial.text) || "";  // what it goes on from
  if (!gone.will_retry) node(run, path).ended += 1;
}

function closeNode(run, path, value) {
  const at = node(run, path);
  at.started = at.finished = true;
  const parts = [path];
  if (value.answer !== undefined) parts.push("answer " + value.answer);
  if (value.mean_score !== undefined) parts.push("mean score " + Number(value.mean_score).toFixed(2));
  if (value.rounds) parts.push(value.rounds + " rounds");
  for (const vote of value.votes || []) parts.push(`${vote.answer}: ${vote.count}`);
  if (value.note) parts.push(value.note);
  at.head.textContent = parts.join(" · ");
}

function end(run, result) {
  run.ended = true;
  const state = STATES[result.state] || "failed";
  const ledger = result.ledger || {};
  $("facts").className = "soft " + state;
  $("facts").textContent = `${state}${result.best_effort ? " (best effort: the budget ran out)" : ""} · ` +
    `${ledger.calls || 0} calls · ${ledger.prompt_tokens || 0} tokens read, ${ledger.cached_tokens || 0} of them cached` +
    ` · ${ledger.output_tokens || 0} written`;
  $("answer").textContent = result.answer !== undefined ? "Answer: " + result.answer : result.message || "No answer";
  if ($("gold").value) grade();
}

// ---- The picture

const SVG = "http://www.w3.org/2000/svg";

function figure(x, y, text) {
  const made = document.createElementNS(SVG, "text");
  made.setAttribute("class", "figure");
  made.setAttribute("x", x);
  made.setAttribute("y", y);
  made.textContent = text;
  return made;
}

function light(run) {
  const svg = $("graph").querySelector("svg");
  if (!svg) return;
  for (const old of svg.querySelectorAll(".figure")) old.remove();
  const sums = new Map();  // by place of the node, over rounds
  for (const at of run.nodes.values()) {
    const sum = sums.get(at.place) || { running: false, done: false, total: 0, ended: 0, written: 0, read: 0 };
    sum.running ||= at.started && !at.finished && !run.ended;
    sum.done ||= at.finished;
    for (const field of ["total", "ended", "written", "read"]) sum[field] += at[field];
    sums.set(at.place, sum);
  }
  for (const rect of svg.querySelectorAll("rect[data-node]")) {
    const sum = sums.get(rect.dataset.node);
    rect.setAttribute("class", !sum ? "" : sum.running ? "lit" : sum.done ? "done" : "");
    if (sum && sum.total) {
      svg.append(figure(rect.x.baseVal.value + rect.width.baseVal.value - 18, rect.y.baseVal.value - 4,
        `${sum.ended}/${sum.total}`));
    }
  }
  const edges = [];
  for (const path of svg.querySelectorAll("path[data-from]")) {
    const sum = sums.get(path.dataset.from);
    const carries = sum && sum.written && sums.has(path.dataset.to);
    path.setAttribute("class", carries ? "lit" : "");
    if (!carries) continue;
    const middle = path.getPointAtLength(path.getTotalLength() * 0.3);
    svg.append(figure(middle.x, middle.y, sum.written));
    edges.push(element("li", `${path.dataset.from} → ${path.dataset.to}: ${sum.written} tokens written`));
  }
  $("edges").replaceChildren(...edges);
}

// ---- Right and wrong

async function grade() {
  const run = shown;
  try {
    const query = `run=${encodeURIComponent(run.id)}&gold=${encodeURIComponent($("gold").value)}`;
    const outcomes = (await (await get("/api/grades?" + query)).json()).outcomes;
    if (run === shown) flips(run, outcomes);
  } catch (error) { notice(error); }
}

// What each member said one time after another: from right to wrong, and from wrong to right.
function flips(run, outcomes) {
  const voices = new Map();
  for (const one of run.order) {
    const outcome = outcomes[one.sequence];
    if (outcome === undefined) continue;
    const voice = `${one.key.member} #${one.key.sample || 0}`;
    if (!voices.has(voice)) voices.set(voice, []);
    voices.get(voice).push({ path: one.path, outcome });
    one.head.className = outcome;
  }
  let better = 0, worse = 0, right = 0, all = 0;
  const table = element("table");
  for (const [voice, said] of voices) {
    const row = element("tr");
    row.append(element("td", voice));
    said.forEach((now, i) => {
      const cell = element("td", `${now.path} ${now.outcome === "correct" ? "✓" : "✗"}`, now.outcome === "correct" ? "correct" : "wrong");
      const before = i > 0 && said[i - 1].outcome === "correct";
      if (i > 0 && before && now.outcome !== "correct") { worse += 1; cell.textContent += " ← right to wrong"; }
      if (i > 0 && !before && now.outcome === "correct") { better += 1; cell.textContent += " ← wrong to right"; }
      all += 1;
      right += now.outcome === "correct" ? 1 : 0;
      row.append(cell);
    });
    table.append(row);
  }
  $("flips").replaceChildren(
    element("p", `${right} of ${all} answers right · ${better} from wrong to right · ${worse} from right to wrong`), table);
}

$("login").onsubmit = (event) => {
  event.preventDefault();
  token = $("token").value;
  sessionStorage.setItem("token", token);
  refresh();
};
$("grade").onsubmit = (event) => { event.preventDefault(); grade(); };
$("more").onclick = () => older().catch(notice);
window.onhashchange = () => open(decodeURIComponent(location.hash.slice(1)));
if (location.hash) window.onhashchange();
const gold = new URLSearchParams(location.search).get("gold");
if (gold) $("gold").value = gold;
refresh();
setInterval(refresh, REFRESH_MS);
