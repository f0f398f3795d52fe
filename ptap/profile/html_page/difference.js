// SPDX-License-Identifier: BSD-2-Clause
// What the page shows where two profiles are compared. Weights before are scaled to those after first, unless it is
// weights that are compared.
"use strict";

const WIDTHS = [["both", "widths of both"], ["before", "widths of before"], ["after", "widths of after"]];

/** By what nodes are drawn: with both, what is new and what is gone have their place, too. */
function setWidths(thread, widths) {
  const { before, after } = thread;
  thread.own = widths === "before" ? before : widths === "after" ? after : before.map((weight, at) => weight + after[at]);
}

/** From red for what is new to blue for what is gone, by how much of it the change is; pale where there is none. */
function changeColour(before, after) {
  const change = before + after ? (after - before) / (before + after) : 0, size = Math.sqrt(Math.abs(change));
  const dark = document.documentElement.dataset.theme === "dark";
  return `hsl(${change > 0 ? 6 : 214} ${Math.round(20 + 65 * size)}% ${Math.round(dark ? 30 + 14 * size : 90 - 30 * size)}%)`;
}

/** Before, after and change, as shares of all samples, or as weights where those are compared. */
function changeTexts(before, after) {
  if (page.data.difference.absolute) return [String(before), String(after), signed(after - before, 0)];
  const { wholes } = page, share = (weight, whole) => (whole ? (100 * weight) / whole : 0);
  const shares = [share(before, wholes.before), share(after, wholes.after)];
  return [...shares.map((each) => each.toFixed(2) + "%"), signed(shares[1] - shares[0], 2) + "%"];
}

function signed(value, digits) {
  return (value > 0 ? "+" : "") + value.toFixed(digits);
}

/** "10.00% → 12.50%, +2.50%" of a node with all that it calls. */
function changeOf(tree, node) {
  return changeWords(tree.totalBefore[node], tree.totalAfter[node]);
}

function changeWords(before, after) {
  const [from, to, change] = changeTexts(before, after);
  return `${from} → ${to}, ${change}${before ? (after ? "" : " (gone)") : " (new)"}`;
}

/** The table of functions, what changed most first: its heads as [sorted by, words], its functions, a function's cells. */
function changeTable() {
  const before = functionWeights("before"), after = functionWeights("after");
  const changed = (kind) => before[kind].map((weight, func) => Math.abs(after[kind][func] - weight));
  const cells = (kind, func) => changeTexts(before[kind][func], after[kind][func]);
  return {
    heads: [["own", "Self before"], ["own", "after"], ["own", "change"],
      ["total", "Total before"], ["total", "after"], ["total", "change"], ["name", "Function"]],
    own: changed("own"),
    total: changed("total"),
    has: (func) => before.total[func] || after.total[func],
    cells: (func) => [...cells("own", func), ...cells("total", func)],
  };
}

/** Make the threads ready to be compared, and offer the choice of widths. */
function beginDifference() {
  const sum = (weights) => weights.reduce((total, weight) => total + weight, 0);
  page.wholes = { before: 0, after: 0 };
  for (const thread of page.threads) {
    thread.before = thread.before.map((weight) => weight * page.data.difference.scale);
    setWidths(thread, "both");
    for (const side of ["before", "after"]) page.wholes[side] += sum(thread[side]);
  }
  const choice = element("widths");
  choice.style.display = "inline-block";
  for (const [value, words] of WIDTHS) {
    const made = text("option", words);
    made.value = value;
    choice.append(made);
  }
  choice.onchange = () => {
    for (const thread of page.threads) setWidths(thread, choice.value);
    rebuild();
  };
}
