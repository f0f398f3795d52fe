// SPDX-License-Identifier: BSD-2-Clause
// What the page shows, and what it does when a person clicks or types.
"use strict";

const ROW = 19, FONT = "12px system-ui, sans-serif";
const element = (id) => document.getElementById(id);
const canvas = element("graph"), context = canvas.getContext("2d");

const page = { view: "flame", reverse: false, tree: null, zoom: 0, hover: -1, chosen: -1, boxes: [], match: null,
  threads: [], data: null, rank: null, chosenFunction: -1, sandwich: null, sort: "own" };

const functionName = (func) => page.data.functions[func].name;
const percent = (weight, whole) => (whole ? ((100 * weight) / whole).toFixed(2) + "%" : "");

function text(tag, words, kind) {
  const made = document.createElement(tag);
  made.textContent = words;
  if (kind) made.className = kind;
  return made;
}

/** The threads that are chosen. */
function chosenThreads() {
  const chosen = element("threads").value;
  if (chosen === "all") return page.threads;
  const [kind, id] = chosen.split(" ");
  return page.threads.filter((thread) => String(kind === "process" ? thread.pid : thread.number) === id);
}

function makeTree() {
  page.tree = merged(chosenThreads(), page.reverse).finish(page.rank);
  page.zoom = 0;
  page.chosen = page.hover = -1;
  if (page.view === "sandwich") makeSandwich();
}

function rebuild() {
  makeTree();
  draw();
}

function makeSandwich() {
  const wanted = page.chosenFunction;
  page.sandwich = null;
  if (wanted < 0) return;
  const both = around(chosenThreads(), wanted);
  page.sandwich = { callers: both.callers.finish(page.rank), callees: both.callees.finish(page.rank) };
}

function hash(words) {
  let value = 7;
  for (let at = 0; at < words.length; at++) value = (value * 31 + words.charCodeAt(at)) >>> 0;
  return value;
}

/** In a comparison by change, else by code. */
function nodeColour(tree, node) {
  return tree.before ? changeColour(tree.totalBefore[node], tree.totalAfter[node]) : colour(tree.functions[node]);
}

/** A node's weight, in words. */
function weightWords(tree, node) {
  if (tree.before) return changeOf(tree, node);
  return `${tree.total[node]} (${percent(tree.total[node], page.tree.total[0])})`;
}

/** Kernel blue, user from yellow to red by module, inlined paler, what is no code grey. */
function colour(func) {
  const { space, module, inlined, name } = page.data.functions[func];
  const dark = document.documentElement.dataset.theme === "dark", light = (dark ? 38 : 70) + (inlined ? (dark ? 8 : 9) : 0);
  if (!space) return dark ? "#555b64" : "#c3c8cf";
  const shade = hash(name) % 9;
  if (space === "kernel") return `hsl(${205 + (shade % 5) * 4} ${dark ? 45 : 65}% ${light + shade - 4}%)`;
  return `hsl(${12 + (hash(module || "") % 38)} ${dark ? 55 : 80}% ${light + shade - 4}%)`;
}

/** Draw one tree below (or above) a line; boxes are noted for the mouse. */
function drawTree(tree, zoom, line, upwards, width) {
  const whole = tree.total[zoom] || 1, scale = width / whole, begin = tree.start[zoom], base = tree.depth[zoom];
  const ancestors = new Set(tree.path(zoom));
  const pending = [zoom];
  const [edge, mark, ink, paper] = ["--line", "--mark", "--text", "--back"].map(colourOf);
  const rowOf = (depth) => (upwards ? line - (depth + 1) * ROW : line + depth * ROW);
  const box = (node, x, wide, row, faded) => {
    page.boxes.push({ tree, node, x, y: row, width: wide });
    const func = tree.functions[node];
    const name = node === 0 ? "all" : functionName(func);
    const found = node > 0 && page.match && page.match[func];
    context.globalAlpha = faded ? 0.55 : 1;
    context.fillStyle = node === 0 ? edge : found ? mark : nodeColour(tree, node);
    context.fillRect(x, row, Math.max(wide - 0.5, 0.5), ROW - 1);
    if (tree === page.tree && node === page.chosen) {
      context.strokeStyle = ink;
      context.strokeRect(x + 0.5, row + 0.5, Math.max(wide - 1.5, 0.5), ROW - 2);
    }
    if (wide > 24) {
      context.fillStyle = found ? paper : ink;
      context.fillText(fitted(name, wide - 8), x + 4, row + 13);
    }
    context.globalAlpha = 1;
  };
  for (const node of ancestors) if (node !== zoom) box(node, 0, width, rowOf(tree.depth[node]), true);
  if (zoom !== 0) box(0, 0, width, rowOf(0), true);
  while (pending.length) {
    const node = pending.pop(), wide = tree.total[node] * scale;
    if (wide < 0.4) continue;
    box(node, (tree.start[node] - begin) * scale, wide, rowOf(tree.depth[node]), false);
    for (const child of tree.childrenOf(node)) pending.push(child);
  }
  return base;
}

function colourOf(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function fitted(name, wide) {
  const letters = Math.floor(wide / 6.2);
  return name.length <= letters ? name : letters < 2 ? "" : name.slice(0, letters - 1) + "…";
}

/** How deep what is wide enough to be seen goes. */
function visibleDepth(tree, zoom, width) {
  const least = (0.4 * tree.total[zoom]) / width;
  let deepest = 0;
  const pending = [zoom];
  while (pending.length) {
    const node = pending.pop();
    if (tree.total[node] < least) continue;
    deepest = Math.max(deepest, tree.depth[node]);
    for (const child of tree.childrenOf(node)) pending.push(child);
  }
  return deepest + 1;
}

function resize(width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.style.width = width + "px";
  canvas.style.height = height + "px";
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.font = FONT;
}

function draw() {
  const main = document.querySelector("main"), width = main.clientWidth;
  const table = page.view === "table" || (page.view === "sandwich" && page.chosenFunction < 0);
  canvas.style.display = table ? "none" : "block";
  element("table").style.display = table ? "table" : "none";
  for (const button of document.querySelectorAll("[data-view]"))
    button.setAttribute("aria-pressed", String(button.dataset.view === page.view));
  element("reverse").setAttribute("aria-pressed", String(page.reverse));
  page.boxes = [];
  if (table) fillTable();
  else if (page.view === "sandwich") drawSandwich(width, main.clientHeight);
  else {
    const rows = visibleDepth(page.tree, page.zoom, width), height = Math.max(rows * ROW, main.clientHeight);
    resize(width, height);
    const upwards = page.view === "flame";
    drawTree(page.tree, page.zoom, upwards ? height : 0, upwards, width);
  }
  showPath();
  showFound();
  showDetail();
}

function drawSandwich(width, least) {
  const { callers, callees } = page.sandwich;
  const above = visibleDepth(callers, 0, width), below = visibleDepth(callees, 0, width);
  resize(width, Math.max((above + below) * ROW + 8, least));
  drawTree(callers, 0, above * ROW, true, width);
  drawTree(callees, 0, above * ROW + 8, false, width);
}

/** Own and total weight by function, each stack once; `side` says whose, where profiles are compared. */
function functionWeights(side = "own") {
  const count = page.data.functions.length, own = new Float64Array(count), total = new Float64Array(count);
  for (const { depths, functions, [side]: weights } of chosenThreads()) {
    const path = [];
    for (let node = 0; node < depths.length; node++) {
      path[depths[node]] = functions[node];
      if (!weights[node]) continue;
      own[functions[node]] += weights[node];
      for (const func of new Set(path.slice(1, depths[node] + 1))) total[func] += weights[node];
    }
  }
  return { own, total };
}

/** The table of functions, as changeTable has it for two profiles. */
function weightTable() {
  const { own, total } = functionWeights(), whole = page.tree.total[0];
  return {
    heads: [["own", "Self"], ["own", ""], ["total", "Total"], ["total", ""], ["name", "Function"]],
    own,
    total,
    has: (func) => total[func],
    cells: (func) => [own[func], percent(own[func], whole), total[func], percent(total[func], whole)],
  };
}

function fillTable() {
  const { heads, own, total, has, cells } = page.data.difference ? changeTable() : weightTable();
  const by = page.sort === "total" ? total : own, other = page.sort === "total" ? own : total;
  const rows = [...own.keys()].filter((func) => has(func) && (!page.match || page.match[func]));
  if (page.sort === "name") rows.sort((a, b) => page.rank[a] - page.rank[b]);
  else rows.sort((a, b) => by[b] - by[a] || other[b] - other[a]);
  const head = document.createElement("tr");
  for (const [key, words] of heads) {
    const cell = text("th", words);
    cell.onclick = () => { page.sort = key; fillTable(); };
    head.append(cell);
  }
  document.querySelector("#table thead").replaceChildren(head);
  const body = rows.slice(0, 1000).map((func) => {
    const row = document.createElement("tr"), { module } = page.data.functions[func];
    for (const words of cells(func)) row.append(text("td", String(words)));
    const cell = text("td", functionName(func));
    if (module) cell.append(" ", text("span", module, "faint"));
    row.append(cell);
    row.onclick = () => { page.chosenFunction = func; setView("sandwich"); };
    return row;
  });
  document.querySelector("#table tbody").replaceChildren(...body);
}

function showPath() {
  const path = element("path");
  path.replaceChildren();
  if (page.view === "sandwich") {
    path.textContent = page.chosenFunction < 0 ? "Choose a function." : `Callers above, callees below: ${functionName(page.chosenFunction)}`;
    return;
  }
  const nodes = page.tree.path(page.zoom).reverse();
  const link = (node, words) => {
    const made = text("a", words);
    made.onclick = () => zoomTo(node);
    path.append(made);
  };
  if (nodes.length) link(0, "all");
  for (const node of nodes) {
    path.append(" › ");
    link(node, functionName(page.tree.functions[node]));
  }
}

/** The share of stacks in which something that was searched for occurs: the outermost match of each counts. */
function showFound() {
  if (!page.match) {
    element("found").textContent = "";
    return;
  }
  let found = 0;
  const pending = [page.zoom];
  while (pending.length) {
    const node = pending.pop();
    if (node > 0 && page.match[page.tree.functions[node]]) found += page.tree.total[node];
    else for (const child of page.tree.childrenOf(node)) pending.push(child);
  }
  element("found").textContent = `${percent(found, page.tree.total[page.zoom])} found`;
}

function placesTable(title, places, whole) {
  const part = document.createElement("div");
  part.append(text("span", title, "faint"));
  const table = document.createElement("table");
  for (const [words, weight] of places) {
    const row = document.createElement("tr");
    row.append(text("td", String(weight)), text("td", percent(weight, whole)), text("td", words));
    table.append(row);
  }
  part.append(table);
  return part;
}

function showDetail() {
  const detail = element("detail");
  detail.replaceChildren();
  const shown = page.shown || (page.chosen > 0 ? { tree: page.tree, node: page.chosen } : null);
  const whole = page.tree.total[0];
  if (!shown || shown.node <= 0) {
    detail.append(text("span", "Click a call to zoom in; its lines and addresses are shown here. ? tells the keys.", "faint"));
    return;
  }
  const func = shown.tree.functions[shown.node], of = page.data.functions[func];
  detail.append(text("b", of.name), ` ${of.inlined ? "(inlined) " : ""}${of.space}`);
  const { before, after, own } = shown.tree, at = shown.node;
  const itself = before ? changeWords(before[at], after[at]) : `${own[at]} (${percent(own[at], whole)})`;
  detail.append(text("div", `here ${weightWords(shown.tree, at)}${before ? "; " : ", "}itself ${itself}`));
  const where = [of.module, of.buildId && `build-id ${of.buildId}`, of.file].filter(Boolean).join("  ");
  if (where) detail.append(text("div", where, "faint"));
  const columns = text("div", "", "columns");
  const samples = page.wholes ? "of its samples after" : "of all its samples", all = page.wholes ? page.wholes.after : whole;
  if (of.lines.length) columns.append(placesTable(`lines, ${samples}`, of.lines.map(([line, weight]) => [`${of.file}:${line}`, weight]), all));
  if (of.addresses.length) columns.append(placesTable(`addresses, ${samples}`, of.addresses, all));
  detail.append(columns);
}

function zoomTo(node) {
  page.zoom = page.chosen = node;
  page.shown = null;
  draw();
  const main = document.querySelector("main");
  main.scrollTop = page.view === "flame" ? main.scrollHeight : 0;
}

function setView(view) {
  page.view = view;
  page.shown = null;
  if (view === "sandwich") {
    if (page.chosen > 0) page.chosenFunction = page.tree.functions[page.chosen];
    makeSandwich();
  }
  draw();
  const main = document.querySelector("main");
  main.scrollTop = view === "flame" ? main.scrollHeight : 0;
}

function search(words) {
  page.match = null;
  if (words) {
    let pattern;
    try {
      pattern = new RegExp(words, "i");
    } catch {
      pattern = new RegExp(words.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "i");
    }
    page.match = page.data.functions.map((of) => pattern.test(of.name) || pattern.test(of.module || ""));
  }
  draw();
}

function boxAt(event) {
  const x = event.offsetX, y = event.offsetY;
  for (let at = page.boxes.length - 1; at >= 0; at--) {
    const box = page.boxes[at];
    if (y >= box.y && y < box.y + ROW && x >= box.x && x < box.x + Math.max(box.width, 1)) return box;
  }
  return null;
}

/** The neighbour of the chosen call: its caller, its heaviest callee, or the next one beside it. */
function neighbour(key) {
  const tree = page.tree, node = page.chosen > 0 ? page.chosen : page.zoom;
  const inwards = page.view === "flame" ? "ArrowUp" : "ArrowDown", outwards = page.view === "flame" ? "ArrowDown" : "ArrowUp";
  if (key === inwards) {
    const children = [...tree.childrenOf(node)];
    return children.length ? children.reduce((most, child) => (tree.total[child] > tree.total[most] ? child : most)) : node;
  }
  if (node <= 0) return node;
  if (key === outwards) return tree.parents[node];
  const beside = tree.childrenOf(tree.parents[node]), at = beside.indexOf(node) + (key === "ArrowRight" ? 1 : -1);
  return at >= 0 && at < beside.length ? beside[at] : node;
}

const KEYS = [["/", "search"], ["f i s t", "flame, icicle, sandwich, table of functions"], ["r", "reverse: callers below their callees"],
  ["arrows", "choose a call"], ["Enter", "zoom to it"], ["Escape, 0", "the whole"], ["d", "dark or light"], ["?", "these keys"]];

function pressed(event) {
  if (event.target.tagName === "INPUT" || event.target.tagName === "SELECT") {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const view = { f: "flame", i: "icicle", s: "sandwich", t: "table" }[event.key];
  if (view) setView(view);
  else if (event.key === "/") element("search").focus();
  else if (event.key === "r") element("reverse").click();
  else if (event.key === "d") element("theme").click();
  else if (event.key === "?") element("keys").click();
  else if (event.key === "Escape" || event.key === "0") zoomTo(0);
  else if (event.key === "Enter" && page.chosen >= 0) zoomTo(page.chosen);
  else if (event.key.startsWith("Arrow") && (page.view === "flame" || page.view === "icicle")) {
    page.chosen = neighbour(event.key);
    page.shown = null;
    draw();
  } else return;
  event.preventDefault();
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

function fillThreads() {
  const choice = element("threads"), weight = (threads) => threads.reduce((sum, thread) => sum + thread.weight, 0);
  const option = (value, words) => {
    const made = text("option", words);
    made.value = value;
    choice.append(made);
  };
  option("all", `all threads (${page.threads.length})`);
  if (page.data.difference) {
    for (const thread of page.threads) option(`thread ${thread.number}`, thread.comm);
    return;
  }
  const processes = new Map();
  for (const thread of page.threads) processes.set(thread.pid, [...(processes.get(thread.pid) || []), thread]);
  const ordered = [...processes].sort((a, b) => weight(b[1]) - weight(a[1]));
  for (const [pid, threads] of ordered) {
    option(`process ${pid}`, `process ${pid} ${threads[0].comm} (${weight(threads)})`);
    if (threads.length > 1) for (const thread of threads) option(`thread ${thread.number}`, `  thread ${thread.tid} ${thread.comm} (${thread.weight})`);
  }
}

async function begin() {
  page.data = JSON.parse(element("data").textContent);
  const names = page.data.functions.map((of, func) => func).sort((a, b) => (functionName(a) < functionName(b) ? -1 : 1));
  page.rank = new Int32Array(names.length);
  names.forEach((func, at) => (page.rank[func] = at));
  const weights = page.data.difference ? ["before", "after"] : ["own"];
  page.threads = await Promise.all(page.data.threads.map(async (thread, number) => (
    { ...thread, number, ...decodeNodes(await unpack(thread.nodes), thread.count, weights) })));
  if (page.data.difference) beginDifference();
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  element("facts").textContent = page.data.facts;
  fillThreads();
  element("help").append(...KEYS.map(([key, words]) => {
    const row = document.createElement("tr");
    row.append(text("td", key), text("td", words));
    return row;
  }));
  for (const button of document.querySelectorAll("[data-view]")) button.onclick = () => setView(button.dataset.view);
  element("reverse").onclick = () => { page.reverse = !page.reverse; rebuild(); };
  element("reset").onclick = () => { element("search").value = ""; page.match = null; zoomTo(0); };
  element("theme").onclick = () => { setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"); draw(); };
  element("keys").onclick = () => { const help = element("help"); help.style.display = help.style.display === "block" ? "none" : "block"; };
  element("threads").onchange = rebuild;
  element("search").oninput = (event) => search(event.target.value.trim());
  canvas.onclick = (event) => {
    const box = boxAt(event);
    if (!box) return;
    if (box.tree === page.tree) zoomTo(box.node);
    else if (box.node > 0) { page.chosenFunction = box.tree.functions[box.node]; makeSandwich(); draw(); }
  };
  canvas.onmousemove = (event) => {
    const box = boxAt(event);
    canvas.style.cursor = box ? "pointer" : "default";
    canvas.title = box && box.node > 0 ? `${functionName(box.tree.functions[box.node])}\n${weightWords(box.tree, box.node)}` : "";
    page.shown = box;
    showDetail();
  };
  canvas.onmouseleave = () => { page.shown = null; showDetail(); };
  window.onresize = draw;
  window.onkeydown = pressed;
  makeTree();
  setView("flame");
  // The second frame begins when the first one, with all that is drawn here, has been made.
  requestAnimationFrame(() => requestAnimationFrame(() => performance.mark("drawn")));
  document.body.dataset.ready = "yes";
}

begin();
