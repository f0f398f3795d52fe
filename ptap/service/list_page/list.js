// SPDX-License-Identifier: BSD-2-Clause
"use strict";

const LABELS = {
  "report.html": "Flame graph",
  "firefox.json": "Firefox Profiler's JSON",
  "profile.pb.gz": "pprof",
  "speedscope.json": "speedscope",
};

/** A new element with `text` in it; what comes from files is never read as HTML. */
function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function link(text, href, attributes = {}) {
  return Object.assign(element("a", text), { href, ...attributes });
}

function bytesText(count) {
  for (const unit of ["bytes", "KiB", "MiB"]) {
    if (count < 1024) return `${unit === "bytes" ? count : count.toFixed(1)} ${unit}`;
    count /= 1024;
  }
  return `${count.toFixed(1)} GiB`;
}

/** The JSON at a path; asked for again while the server says that it takes a while. */
async function load(path) {
  for (;;) {
    const response = await fetch(path);
    const told = await response.json();
    if (response.ok) return told;
    if (response.status !== 503) throw new Error(told.error);
    await new Promise((done) => setTimeout(done, 1000 * response.headers.get("Retry-After")));
  }
}

function countsText(counts, modules) {
  const parts = [];
  if ("samples" in counts) {
    parts.push(`${counts.samples} samples of ${counts.threads} threads in ${counts.processes} processes`);
    if (counts.span_ns) parts.push(`${(counts.span_ns / 1e9).toFixed(3)} s`);
    if (counts.lost) parts.push(`${counts.lost} records lost`);
  }
  parts.push(`${modules} programs and libraries`);
  return parts.join(", ");
}

function lines(texts, className) {
  const list = element("ul", undefined, className);
  for (const text of texts) list.append(element("li", text));
  return list;
}

function links(forms, number, file) {
  const nav = element("nav");
  const name = file.path.split("/").pop();
  for (const form of forms) {
    const path = `file/${number}/${form}`;
    if (form === "firefox.json") {
      nav.append(link("Firefox Profiler", file.profiler, { rel: "noreferrer noopener", target: "_blank" }));
    }
    nav.append(link(LABELS[form], path, form === "report.html" ? {} : { download: `${name}.${form}` }));
  }
  return nav;
}

async function showFacts(article, number, file) {
  try {
    const facts = await load(`file/${number}/facts.json`);
    article.append(element("p", `${facts.kind}, ${countsText(facts.counts, facts.modules)}`));
    if (facts.forms.length) article.append(links(facts.forms, number, file));
    if (facts.problems.length) article.append(lines(facts.problems, "problems"));
    if (facts.told.length) article.append(lines(facts.told, "faint"));
  } catch (error) {
    article.append(lines([error.message], "problems"));
  }
}

async function show() {
  const main = document.getElementById("files");
  const files = await load("files.json");
  const articles = files.map((file) => {
    const article = element("article");
    article.append(element("h2", file.path.split("/").pop()), element("p", file.path, "faint"));
    if ("bytes" in file) {
      article.append(element("p", `${bytesText(file.bytes)}, ${new Date(file.modified_ms).toLocaleString()}`));
    } else {
      article.append(lines([file.problem], "problems"));
    }
    main.append(article);
    return article;
  });
  if (!files.length) main.append(element("p", "No captures are served."));
  // One after another, as the server works.
  for (const [number, file] of files.entries()) await showFacts(articles[number], number, file);
  document.body.dataset.ready = "true";
}

show().catch((error) => document.getElementById("files").append(lines([error.message], "problems")));
