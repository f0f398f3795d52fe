// SPDX-License-Identifier: BSD-2-Clause
// The tree of calls, as the page has it. Nodes are numbers; node 0 is the whole.
"use strict";

/** A tree that grows by (parent, function); weights are added to the nodes' own, totals made by finish(). Where two
    profiles are compared `before` and `after` are the weights in each, and `own` is by what the nodes are drawn. */
class Tree {
  constructor(functionCount, threads) {
    this.functionCount = functionCount;
    this.weights = threads.length && threads[0].before ? ["own", "before", "after"] : ["own"];
    for (const name of this.weights) this[name] = [0];
    this.functions = [-1];
    this.parents = [-1];
    this.index = new Map();
  }

  child(parent, func) {
    const key = parent * this.functionCount + func;
    let node = this.index.get(key);
    if (node === undefined) {
      node = this.parents.length;
      this.index.set(key, node);
      this.parents.push(parent);
      this.functions.push(func);
      for (const name of this.weights) this[name].push(0);
    }
    return node;
  }

  /** Add what a thread spent in a node of its own to one of the tree. */
  add(node, thread, at) {
    for (const name of this.weights) this[name][node] += thread[name][at];
  }

  /** With all that was called, by node. */
  totals(own) {
    const totals = Float64Array.from(own);
    for (let node = totals.length - 1; node > 0; node--) totals[this.parents[node]] += totals[node];
    return totals;
  }

  /** Totals, depths, children in order of `rank` (by function), and where each node begins. */
  finish(rank) {
    const count = this.parents.length;
    this.index = null;
    this.total = this.totals(this.own);
    if (this.before) [this.totalBefore, this.totalAfter] = [this.totals(this.before), this.totals(this.after)];
    this.depth = new Int32Array(count);
    for (let node = 1; node < count; node++) this.depth[node] = this.depth[this.parents[node]] + 1;
    this.firstChild = new Int32Array(count + 1);
    for (let node = 1; node < count; node++) this.firstChild[this.parents[node] + 1]++;
    for (let node = 0; node < count; node++) this.firstChild[node + 1] += this.firstChild[node];
    const at = this.firstChild.slice();
    this.children = new Int32Array(Math.max(count - 1, 0));
    for (let node = 1; node < count; node++) this.children[at[this.parents[node]]++] = node;
    this.start = new Float64Array(count);
    const order = (a, b) => rank[this.functions[a]] - rank[this.functions[b]];
    // A parent has a lower number than its children, so that one pass from the front is enough.
    for (let node = 0; node < count; node++) {
      const children = this.childrenOf(node).sort(order);
      let begin = this.start[node];
      for (const child of children) {
        this.start[child] = begin;
        begin += this.total[child];
      }
    }
    this.deepest = this.depth.reduce((most, depth) => Math.max(most, depth), 0);
    return this;
  }

  childrenOf(node) {
    return this.children.subarray(this.firstChild[node], this.firstChild[node + 1]);
  }

  /** Nodes from `node` outwards, the whole left out. */
  path(node) {
    const nodes = [];
    for (; node > 0; node = this.parents[node]) nodes.push(node);
    return nodes;
  }
}

/** The threads' nodes (see html.py: per node depth, function, own weights) as {depths, functions} and the named weights. */
function decodeNodes(bytes, count, names) {
  const depths = new Int32Array(count), functions = new Int32Array(count);
  const weights = names.map(() => new Float64Array(count));
  let at = 0, depth = 0;
  const number = () => {
    let value = 0, scale = 1, byte;
    do {
      byte = bytes[at++];
      value += (byte & 127) * scale;
      scale *= 128;
    } while (byte & 128);
    return value;
  };
  for (let node = 0; node < count; node++) {
    depth = depth + 1 - number();
    depths[node] = depth;
    functions[node] = number();
    for (const own of weights) own[node] = number();
  }
  return { depths, functions, ...Object.fromEntries(names.map((name, at) => [name, weights[at]])) };
}

async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The tree of some threads; `reverse` has the innermost calls as roots. */
function merged(threads, functionCount, reverse) {
  const tree = new Tree(functionCount, threads);
  for (const thread of threads) {
    const { depths, functions, own } = thread;
    const path = [0];
    for (let node = 0; node < depths.length; node++) {
      const depth = depths[node];
      if (reverse) {
        path[depth] = functions[node];
        if (own[node]) {
          let at = 0;
          for (let outer = depth; outer > 0; outer--) at = tree.child(at, path[outer]);
          tree.add(at, thread, node);
        }
      } else {
        path[depth] = tree.child(path[depth - 1], functions[node]);
        tree.add(path[depth], thread, node);
      }
    }
  }
  return tree;
}

/** Of all stacks that a function is in: what it calls (from its outermost call on), and what calls it. */
function around(threads, functionCount, wanted) {
  const callees = new Tree(functionCount, threads), callers = new Tree(functionCount, threads);
  for (const thread of threads) {
    const { depths, functions, own } = thread;
    const path = [];
    for (let node = 0; node < depths.length; node++) {
      const depth = depths[node];
      path[depth] = functions[node];
      if (!own[node]) continue;
      let first = 1;
      while (first <= depth && path[first] !== wanted) first++;
      if (first > depth) continue;
      let at = 0;
      for (let inner = first; inner <= depth; inner++) at = callees.child(at, path[inner]);
      callees.add(at, thread, node);
      at = 0;
      for (let outer = first; outer > 0; outer--) at = callers.child(at, path[outer]);
      callers.add(at, thread, node);
    }
  }
  return { callees, callers };
}
