// SPDX-License-Identifier: BSD-2-Clause
// The tree of calls, as the page has it. Nodes are numbers; node 0 is the whole.
"use strict";

const FIRST_NODES = 1 << 12;

/** A tree that grows by (parent, function); weights are added to the nodes' own, totals made by finish(). Where two
    profiles are compared `before` and `after` are the weights in each, and `own` is by what the nodes are drawn. */
class Tree {
  constructor(threads) {
    this.weights = threads.length && threads[0].before ? ["own", "before", "after"] : ["own"];
    for (const name of this.weights) this[name] = new Float64Array(FIRST_NODES);
    this.functions = new Int32Array(FIRST_NODES);
    this.parents = new Int32Array(FIRST_NODES);
    this.functions[0] = this.parents[0] = -1;
    this.count = 1;
    // By hash of (parent, function) the node, 0 for none: the whole is no one's child. At most half are taken.
    this.slots = new Int32Array(2 * FIRST_NODES);
  }

  /** Where in the slots a node is, or would go. */
  slot(parent, func) {
    const { slots, parents, functions } = this, mask = slots.length - 1;
    const mixed = Math.imul(parent, 0x9e3779b1) ^ Math.imul(func, 0x85ebca6b);
    for (let slot = (mixed ^ (mixed >>> 15)) & mask; ; slot = (slot + 1) & mask) {
      const node = slots[slot];
      if (!node || (parents[node] === parent && functions[node] === func)) return slot;
    }
  }

  child(parent, func) {
    let slot = this.slot(parent, func);
    const found = this.slots[slot];
    if (found) return found;
    if (this.count === this.parents.length) {
      this.grow();
      slot = this.slot(parent, func);
    }
    const node = this.count++;
    this.parents[node] = parent;
    this.functions[node] = func;
    return (this.slots[slot] = node);
  }

  grow() {
    for (const name of ["parents", "functions", ...this.weights]) {
      const larger = new this[name].constructor(2 * this.count);
      larger.set(this[name]);
      this[name] = larger;
    }
    this.slots = new Int32Array(4 * this.count);
    for (let node = 1; node < this.count; node++) this.slots[this.slot(this.parents[node], this.functions[node])] = node;
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
    const { count } = this;
    for (const name of ["parents", "functions", ...this.weights]) this[name] = this[name].slice(0, count);
    this.slots = null;
    const { parents } = this;
    this.total = this.totals(this.own);
    if (this.before) [this.totalBefore, this.totalAfter] = [this.totals(this.before), this.totals(this.after)];
    // A parent has a lower number than its children, so that one pass from the front is enough.
    this.depth = new Int32Array(count);
    this.firstChild = new Int32Array(count + 1);
    for (let node = 1; node < count; node++) {
      this.depth[node] = this.depth[parents[node]] + 1;
      this.firstChild[parents[node] + 1]++;
    }
    for (let node = 0; node < count; node++) this.firstChild[node + 1] += this.firstChild[node];
    const at = this.firstChild.slice();
    this.children = new Int32Array(count - 1);
    for (const node of this.inOrderOf(rank)) this.children[at[parents[node]]++] = node;
    this.start = new Float64Array(count);
    for (let node = 0; node < count; node++) {
      let begin = this.start[node];
      for (let child = this.firstChild[node]; child < this.firstChild[node + 1]; child++) {
        this.start[this.children[child]] = begin;
        begin += this.total[this.children[child]];
      }
    }
    return this;
  }

  /** All nodes but the whole by the ranks of their functions, which are distinct numbers from 0 on. */
  inOrderOf(rank) {
    const begins = new Int32Array(rank.length + 1), ordered = new Int32Array(this.count - 1);
    for (let node = 1; node < this.count; node++) begins[rank[this.functions[node]] + 1]++;
    for (let at = 0; at < rank.length; at++) begins[at + 1] += begins[at];
    for (let node = 1; node < this.count; node++) ordered[begins[rank[this.functions[node]]]++] = node;
    return ordered;
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
  const letters = atob(text), packed = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at++) packed[at] = letters.charCodeAt(at);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The tree of some threads; `reverse` has the innermost calls as roots. */
function merged(threads, reverse) {
  const tree = new Tree(threads);
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
function around(threads, wanted) {
  const callees = new Tree(threads), callers = new Tree(threads);
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
