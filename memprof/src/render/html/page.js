"use strict";
document.documentElement.classList.add("js");
document.addEventListener("DOMContentLoaded", () => {
  const table = document.getElementById("table");
  if (!table) return;
  sortByHeads(table);
  openByRows(table);
  const graph = drawFlameGraph(JSON.parse(document.getElementById("stacks").textContent));
  findAsTyped(table, graph);
});

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

function inBytes(number) {
  let unit = 0;
  for (; number >= 1024 && unit < UNITS.length - 1; unit++) number /= 1024;
  return (unit ? number.toFixed(1) : number) + " " + UNITS[unit];
}

function counted(number, noun) {
  return number.toLocaleString("en-US") + " " + noun + (number === 1 ? "" : "s");
}

/* The table: one <tbody> a stack, with a row of figures and a row of frames. */

function sortByHeads(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.addEventListener("click", () => {
    const descending = head.ariaSort ? head.ariaSort === "ascending" : column > 0;
    for (const other of heads) other.removeAttribute("aria-sort");
    head.ariaSort = descending ? "descending" : "ascending";
    const value = body => {
      const cell = body.rows[0].cells[column];
      return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
    };
    const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0) * (descending ? -1 : 1);
    const bodies = [...table.tBodies].map(body => [value(body), body]);
    table.append(...bodies.sort(([a], [b]) => order(a, b)).map(([, body]) => body));
  }));
}

function openByRows(table) {
  for (const button of table.querySelectorAll("[aria-expanded]")) button.ariaExpanded = "false";
  table.addEventListener("click", event => {
    const row = event.target.closest("tr.stack");
    if (!row || (getSelection().toString() && !event.target.closest("button"))) return;
    const isOpen = row.parentElement.classList.toggle("open");
    row.querySelector("button").ariaExpanded = String(isOpen);
  });
}

/* What is typed filters the table and marks frames. */

function findAsTyped(table, graph) {
  const [input, found] = ["find", "found"].map(id => document.getElementById(id));
  const texts = new Map();
  const named = body => [...body.querySelectorAll("th, ol")].map(part => part.textContent).join(" ").toLowerCase();
  const text = body => texts.get(body) ?? texts.set(body, named(body)).get(body);
  const find = () => {
    const wanted = input.value.trim().toLowerCase();
    let [stacks, bytes] = [0, 0];
    for (const body of table.tBodies) {
      body.hidden = !text(body).includes(wanted);
      if (body.hidden) continue;
      stacks += 1;
      bytes += Number(body.rows[0].cells[1].dataset.value);
    }
    const inGraph = graph.find(wanted);
    found.textContent = wanted ? counted(stacks, "stack") + ", " + inBytes(bytes) + inGraph : "";
  };
  input.addEventListener("input", find);
  input.addEventListener("keydown", event => {
    if (event.key === "Escape") { input.value = ""; find(); }
  });
}

/* The flame graph. A tree's nodes are in an order in which parents come first. */

function treeFromStart({ names, nodes }) {
  const tree = nodes.map(([, name, own]) => ({ name: names[name], own: own ?? null, parent: null, children: [] }));
  nodes.forEach(([parent], place) => { if (place) adopt(tree[parent], tree[place]); });
  return tree;
}

function adopt(parent, child) {
  child.parent = parent;
  parent.children.push(child);
}

/* The same stacks from their other ends: whoever allocates is next to the root. */
function treeFromAllocation(tree) {
  const root = { name: tree[0].name, own: null, parent: null, children: [], byName: new Map() };
  const turned = [root];
  for (const end of tree.filter(node => node.own)) {
    let place = root;
    for (let node = end; node.parent; node = node.parent) {
      if (!place.byName.has(node.name)) {
        const child = { name: node.name, own: null, parent: null, children: [], byName: new Map() };
        place.byName.set(node.name, child);
        adopt(place, child);
        turned.push(child);
      }
      place = place.byName.get(node.name);
    }
    place.own = end.own.map((value, metric) => value + (place.own?.[metric] ?? 0));
  }
  return turned;
}

/* Each node's sum, and children in the order of theirs. */
function sum(tree, metric) {
  for (const node of tree) node.sum = node.own?.[metric] ?? 0;
  for (let place = tree.length - 1; place > 0; place--) tree[place].parent.sum += tree[place].sum;
  for (const node of tree) node.children.sort((a, b) => b.sum - a.sum);
}

/* The same name has the same colour, between green and blue. */
function hue([name, module]) {
  let hash = 7;
  for (const character of name + module) hash = (hash * 31 + character.codePointAt(0)) >>> 0;
  return 135 + hash % 85;
}

const FRAME_HEIGHT = 20;
const LEAST_PIXELS = 2;

function drawFlameGraph(data) {
  const [canvas, pointed, metric, direction] =
    ["flame", "pointed", "metric", "direction"].map(id => document.getElementById(id));
  const fromStart = treeFromStart(data);
  const trees = [fromStart, treeFromAllocation(fromStart)];
  let tree, zoomed, wanted = "";

  const isBytes = () => data.metrics[metric.selectedIndex].includes("bytes");
  const figure = number => isBytes() ? inBytes(number) : counted(number, "allocation");
  const share = number => (tree[0].sum ? 100 * number / tree[0].sum : 0).toFixed(1) + " %";
  const describe = ({ name: [name, module], sum }) =>
    `${name}: ${figure(sum)}, ${share(sum)}` + (module && ` (${module})`);
  const matches = node => wanted !== "" && node.name.join(" ").toLowerCase().includes(wanted);

  const add = (node, left, width, depth) => {
    const frame = document.createElement("div");
    frame.node = node;
    frame.textContent = node.name[0];
    frame.title = describe(node);
    frame.setAttribute("role", "treeitem");
    frame.tabIndex = -1;
    frame.classList.toggle("match", matches(node));
    frame.style.left = 100 * left + "%";
    frame.style.width = 100 * width + "%";
    frame.style.top = depth * FRAME_HEIGHT + "px";
    frame.style.setProperty("--hue", hue(node.name));
    canvas.append(frame);
    return frame;
  };

  const draw = () => {
    canvas.replaceChildren();
    const above = [];
    for (let node = zoomed.parent; node; node = node.parent) above.unshift(node);
    above.forEach((node, depth) => add(node, 0, 1, depth).classList.add("above"));
    const least = LEAST_PIXELS / Math.max(canvas.clientWidth, 1);
    let deepest = 0;
    for (const work = [[zoomed, 0, above.length]]; work.length;) {
      let [node, left, depth] = work.pop();
      add(node, left, zoomed.sum ? node.sum / zoomed.sum : 1, depth);
      deepest = Math.max(deepest, depth);
      const below = [];
      for (const child of node.children) {
        const width = zoomed.sum ? child.sum / zoomed.sum : 0;
        if (width >= least) below.unshift([child, left, depth + 1]);
        left += width;
      }
      for (const frame of below) work.push(frame);
    }
    canvas.style.height = (deepest + 1) * FRAME_HEIGHT + "px";
  };

  const zoom = node => {
    zoomed = node;
    draw();
    point(node);
  };
  const choose = () => {
    tree = trees[direction.selectedIndex];
    sum(tree, metric.selectedIndex);
    zoom(tree[0]);
  };
  const point = node => { pointed.textContent = describe(node); };
  const frameOf = node => [...canvas.children].find(frame => frame.node === node);

  const neighbour = (node, key) => {
    const siblings = node.parent?.children ?? [node];
    switch (key) {
      case "ArrowUp": return node.parent;
      case "ArrowDown": return node.children[0];
      case "ArrowLeft": return siblings[siblings.indexOf(node) - 1];
      case "ArrowRight": return siblings[siblings.indexOf(node) + 1];
    }
  };

  canvas.addEventListener("click", event => { if (event.target.node) zoom(event.target.node); });
  for (const kind of ["mouseover", "focusin"]) {
    canvas.addEventListener(kind, event => { if (event.target.node) point(event.target.node); });
  }
  canvas.addEventListener("mouseleave", () => point(zoomed));
  canvas.addEventListener("keydown", event => {
    const node = event.target.node ?? zoomed;
    if (event.key.startsWith("Arrow")) frameOf(neighbour(node, event.key))?.focus();
    else if (event.key === "Enter") zoom(node);
    else if (event.key === "Escape" && zoomed.parent) zoom(zoomed.parent);
    else return;
    event.preventDefault();
    if (!event.key.startsWith("Arrow")) frameOf(zoomed).focus();
  });
  metric.addEventListener("change", choose);
  direction.addEventListener("change", choose);
  addEventListener("resize", draw);
  choose();

  /* How much of what is drawn the frames hold that match, each outermost one counted once. */
  const found = () => {
    let held = 0;
    for (const work = [zoomed]; work.length;) {
      const node = work.pop();
      if (matches(node)) held += node.sum;
      else work.push(...node.children);
    }
    return held;
  };
  return {
    find(text) {
      wanted = text;
      for (const frame of canvas.children) frame.classList.toggle("match", matches(frame.node));
      return wanted && `; in the graph ${figure(found())}, ${share(found())}`;
    },
  };
}
