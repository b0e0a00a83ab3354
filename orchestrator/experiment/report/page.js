// The items behind the numbers. Everything is read from report_data/*.js by script tags, because a page opened from disk may
// not fetch; each file calls conclave.take(name, data).
"use strict";
var conclave = (function () {
  var KINDS = { c: "correct", w: "wrong", n: "no_answer", t: "truncated", e: "grader_error", f: "failed", ".": "missing" };
  var PAGE = 50, waiting = {}, held = {}, query = null, shown = 0, hits = [];
  var base = document.currentScript.getAttribute("data-base");
  function $(id) { return document.getElementById(id); }
  function make(tag, cls, text) {
    var e = document.createElement(tag);
    if (cls) e.className = cls;
    if (text !== undefined) e.textContent = text;
    return e;
  }
  function load(name) {
    if (held[name]) return Promise.resolve(held[name]);
    if (waiting[name]) return waiting[name].promise;
    var w = waiting[name] = {};
    w.promise = new Promise(function (resolve, reject) { w.resolve = resolve; w.reject = reject; });
    var script = document.createElement("script");
    script.src = base + name + ".js";
    script.onerror = function () { delete waiting[name]; w.reject(new Error(base + name + ".js cannot be read; keep it beside the report")); };
    document.head.appendChild(script);
    return w.promise;
  }
  function take(name, data) { held[name] = data; if (waiting[name]) waiting[name].resolve(data); }

  // A query is conditions joined by "&": "a3=c" arm 3 correct, "a3=x" not correct, "m2=c" member 2, "s=5" stratum 5,
  // "f=8" a flag, "id=text". An item with several replicates fits when one of them does.
  function fits(grid, cond, i) {
    var at = cond.indexOf("="), left = cond.slice(0, at), right = cond.slice(at + 1);
    if (left === "s") return grid.stratum[i] === +right;
    if (left === "f") return (grid.flags.charCodeAt(i) - 48 & +right) !== 0;
    if (left === "id") return grid.ids[i].indexOf(right) >= 0;
    var codes, r = 1;
    if (left.charAt(0) === "m") codes = grid.own[+left.slice(1)];
    else { codes = grid.codes[+left.slice(1)]; r = grid.replicates; }
    for (var k = i * r; k < (i + 1) * r; ++k) {
      var c = codes.charAt(k);
      if (c === right || (right === "x" && c !== "c" && c !== ".")) return true;
    }
    return false;
  }
  function describe(grid, q) {
    if (!q) return "all items";
    return q.split("&").map(function (cond) {
      var at = cond.indexOf("="), left = cond.slice(0, at), right = cond.slice(at + 1);
      if (left === "s") return "stratum " + grid.strata[+right];
      if (left === "f") return { 1: "every arm not right", 2: "all arms with different answers", 4: "cut at the length limit in some arm", 8: "no readable answer in some arm", 16: "arms disagree about right and wrong" }[right];
      if (left === "id") return "id contains “" + right + "”";
      var name = left.charAt(0) === "m" ? "member " + grid.members[+left.slice(1)] : grid.arms[+left.slice(1)];
      return name + " " + (right === "x" ? "not right" : right === "c" ? "right" : KINDS[right].replace("_", " "));
    }).join(" · ");
  }
  function ask(q, keep) {
    query = q;
    $("found").textContent = "reading …";
    load("grid").then(function (grid) {
      var conds = q ? q.split("&") : [];
      hits = [];
      for (var i = 0; i < grid.ids.length; ++i) {
        if (conds.every(function (c) { return fits(grid, c, i); })) hits.push(i);
      }
      $("found").textContent = describe(grid, q) + ": " + hits.length.toLocaleString("en") + " of " + grid.ids.length.toLocaleString("en") + " items";
      $("list").textContent = "";
      shown = 0;
      more(grid);
      fill(grid, q);
      if (!keep) $("items").scrollIntoView();
    }).catch(function (e) { $("found").textContent = e.message; });
  }
  function more(grid) {
    var list = $("list"), end = Math.min(hits.length, shown + PAGE);
    for (; shown < end; ++shown) list.appendChild(row(grid, hits[shown]));
    $("more").hidden = shown >= hits.length;
  }
  function row(grid, i) {
    var d = make("details"), s = make("summary");
    s.appendChild(make("code", "", grid.ids[i]));
    s.appendChild(document.createTextNode(" "));
    grid.arms.forEach(function (name, a) {
      var code = grid.codes[a].charAt(i * grid.replicates);
      if (code === ".") return;
      var tag = make("span", "tag " + KINDS[code], grid.arms.length > 6 ? String(a + 1) : name);
      tag.title = name + ": " + KINDS[code].replace("_", " ");
      s.appendChild(tag);
    });
    d.appendChild(s);
    d.addEventListener("toggle", function () {
      if (!d.open || d.dataset.full) return;
      d.dataset.full = 1;
      var body = make("div", "item", "reading …");
      d.appendChild(body);
      var chunk = Math.floor(i / grid.chunk);
      load("items-" + chunk).then(function (items) { open(grid, i, items[i - chunk * grid.chunk], body); })
        .catch(function (e) { body.textContent = e.message; });
    });
    return d;
  }
  function open(grid, i, item, body) {
    body.textContent = "";
    body.appendChild(make("p", "", item.q || "The question is not stored."));
    body.appendChild(make("p", "soft", "gold " + item.g + (item.s ? " · " + item.s : "") + (item.k ? " · cluster " + item.k : "") + (item.n ? " · annotated: " + item.n : "")));
    var t = make("table"), head = make("tr");
    ["Arm", "Verdict", "Answer", "Found by", "Output tokens"].forEach(function (h, k) { head.appendChild(make("th", k === 4 ? "r" : "", h)); });
    t.appendChild(head);
    item.a.forEach(function (rows, a) {
      rows.forEach(function (r, k) {
        var tr = make("tr"), code = grid.codes[a].charAt(i * grid.replicates + k), verdict = make("td");
        tr.appendChild(make("td", "", (grid.arms.length > 6 ? (a + 1) + " " : "") + grid.arms[a] + (rows.length > 1 ? " #" + k : "")));
        verdict.appendChild(make("span", "tag " + KINDS[code], KINDS[code].replace("_", " ")));
        if (r[2]) verdict.appendChild(make("span", "soft", " strict: " + r[2].replace("_", " ")));
        tr.appendChild(verdict);
        tr.appendChild(make("td", "wrap", r[0] || "none"));
        tr.appendChild(make("td", "soft", r[1]));
        tr.appendChild(make("td", "r", r[3].toLocaleString("en")));
        t.appendChild(tr);
      });
    });
    var scroll = make("div", "scroll");
    scroll.appendChild(t);
    body.appendChild(scroll);
    var file = grid.calls[i];
    if (file < 0) return void body.appendChild(make("p", "soft", "No transcript of this item is stored."));
    var said = make("div", "", "reading what was said …");
    body.appendChild(said);
    load("calls-" + file).then(function (calls) { speak(grid, calls[i], said); }).catch(function (e) { said.textContent = e.message; });
  }
  function speak(grid, entry, said) {
    said.textContent = "";
    var arm = -1, rep = -1;
    entry.calls.forEach(function (c) {
      if (c[0] !== arm || c[1] !== rep) said.appendChild(make("h3", "", grid.arms[c[0]] + (grid.replicates > 1 ? " #" + c[1] : "")));
      arm = c[0]; rep = c[1];
      var d = make("details"), line = c[2] + " · " + c[3] + (c[4] ? " · sample " + c[4] : "");
      if (c[5] !== null) line += " · answer " + c[5];
      if (c[6] !== null) line += " · score " + c[6].toFixed(2);
      d.appendChild(make("summary", "", line));
      d.appendChild(make("pre", "", entry.texts[c[7]]));
      said.appendChild(d);
    });
    if (entry.left_out) said.appendChild(make("p", "soft", entry.left_out + " more calls are in transcripts.jsonl"));
  }
  function option(select, value, text) { var o = make("option", "", text); o.value = value; select.appendChild(o); }
  function fill(grid, q) {
    var arm = $("q-arm");
    if (arm.options.length < 2) {
      grid.arms.forEach(function (n, a) { option(arm, "a" + a, (grid.arms.length > 6 ? (a + 1) + " " : "") + n); option($("q-arm2"), "a" + a, (grid.arms.length > 6 ? (a + 1) + " " : "") + n); });
      grid.members.forEach(function (n, m) { option(arm, "m" + m, "member " + n); option($("q-arm2"), "m" + m, "member " + n); });
      grid.strata.forEach(function (n, s) { option($("q-stratum"), s, n); });
      $("q-stratum").hidden = !grid.strata.length;
    }
    var conds = (q || "").split("&"), arms = conds.filter(function (c) { return /^[am]\d+=/.test(c); });
    [["q-arm", "q-is"], ["q-arm2", "q-is2"]].forEach(function (ids, k) {
      $(ids[0]).value = arms[k] ? arms[k].split("=")[0] : "";
      if (arms[k]) $(ids[1]).value = arms[k].split("=")[1];
    });
  }
  function build() {
    var q = [];
    [["q-arm", "q-is"], ["q-arm2", "q-is2"]].forEach(function (ids) { if ($(ids[0]).value) q.push($(ids[0]).value + "=" + $(ids[1]).value); });
    if ($("q-stratum").value) q.push("s=" + $("q-stratum").value);
    if ($("q-id").value) q.push("id=" + $("q-id").value.replace(/&/g, ""));
    ask(q.join("&"), true);
  }
  document.addEventListener("click", function (e) {
    var a = e.target.closest ? e.target.closest("[data-q]") : null;
    if (!a) return;
    e.preventDefault();
    ask(a.getAttribute("data-q"));
  });
  document.addEventListener("DOMContentLoaded", function () {
    if (!$("find")) return;
    $("find").addEventListener("submit", function (e) { e.preventDefault(); build(); });
    ["q-arm", "q-is", "q-arm2", "q-is2", "q-stratum"].forEach(function (id) { $(id).addEventListener("change", build); });
    $("more").addEventListener("click", function () { more(held.grid); });
    $("theme").addEventListener("click", function () {
      var root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
    });
    ["q-arm", "q-arm2", "q-stratum"].forEach(function (id) { $(id).addEventListener("focus", function () { load("grid").then(function (g) { fill(g, query); }); }); });
    var wanted = /^#q:(.*)$/.exec(decodeURIComponent(location.hash));
    if (wanted) ask(wanted[1]);
  });
  return { take: take };
})();
